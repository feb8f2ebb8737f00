// Lists of images: CSV tables, files of class names, lists of members.
#include "data/class_names.h"
#include "data/csv_table.h"
#include "data/member_list.h"
#include "fuzz_case.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::InputFile input({data, size});
  fuzz::accept_or_refuse([&] {
    const data::CsvTable table(input.path());
    const std::size_t column = table.column("label");
    for (const data::CsvTable::Row& row : table.rows()) fuzz::use(std::as_bytes(std::span(row.fields.at(column))));
  });
  fuzz::accept_or_refuse([&] {
    const data::ClassNames names(input.path());
    MOEX_ASSERT(names.index_of("cat", "cat/1.png") < names.count(), "an index is below the count");
  });
  fuzz::accept_or_refuse([&] {
    static const std::vector<std::string> ids{"cat/1.png", "cat/2.png", "dog/1.png"};
    data::ImageSetParams params;
    params.list = input.path();
    for (const std::int64_t place : data::select_members(ids, params)) ids.at(static_cast<std::size_t>(place));
  });
  return 0;
}
