// What ends a request: codes and texts.
#include "core/error.h"

#include <gtest/gtest.h>

namespace moextract {
namespace {

TEST(Error, FailFormatsTheMessageAndKeepsTheCode) {
  try {
    fail(ExitCode::storage, "{}: {} of {}", "a.txt", 3, 4);
    FAIL() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::storage);
    EXPECT_STREQ(error.what(), "a.txt: 3 of 4");
  }
}

TEST(Error, AnAssertionNamesConditionPlaceAndNote) {
  EXPECT_NO_THROW(MOEX_ASSERT(1 + 1 == 2, "never seen"));
  try {
    MOEX_ASSERT(1 + 1 == 3, std::string("sums ") + "differ");
    FAIL() << "nothing was thrown";
  } catch (const BugError& error) {
    const std::string text = error.what();
    for (const char* part : {"error_test.cpp:", "1 + 1 == 3", "sums differ", "bug in moextract"}) {
      EXPECT_NE(text.find(part), text.npos) << part << " is not in: " << text;
    }
  }
}

TEST(Error, ABugIsNotAUsersMistake) {
  EXPECT_THROW(MOEX_ASSERT(false, ""), std::logic_error);
  bool taken_for_users = false;
  try {
    MOEX_ASSERT(false, "");
  } catch (const UserError&) {
    taken_for_users = true;
  } catch (const std::exception&) {
  }
  EXPECT_FALSE(taken_for_users);
}

// Scripts test these numbers: they are part of the interface.
TEST(Error, ExitCodesAreFixed) {
  EXPECT_EQ(static_cast<int>(ExitCode::usage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::config), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::input), 4);
  EXPECT_EQ(static_cast<int>(ExitCode::model), 5);
  EXPECT_EQ(static_cast<int>(ExitCode::numerics), 6);
  EXPECT_EQ(static_cast<int>(ExitCode::storage), 7);
  EXPECT_EQ(static_cast<int>(ExitCode::conflict), 8);
  EXPECT_EQ(static_cast<int>(ExitCode::distributed), 9);
  EXPECT_EQ(static_cast<int>(ExitCode::bug), 70);
  EXPECT_EQ(static_cast<int>(ExitCode::resume), 75);
}

}  // namespace
}  // namespace moextract
