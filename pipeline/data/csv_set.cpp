// A table of files and class indices. The number of classes is the largest index of the whole table, plus one.
#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "data/csv_table.h"
#include "data/image_set_kinds.h"
#include "data/listing.h"
#include "data/random_access_file.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

constexpr std::int32_t kMaxLabel = 1 << 24;

class CsvSet final : public SelectedImageSet {
 public:
  explicit CsvSet(const ImageSetParams& params)
      : root_(params.root.empty() ? params.source.parent_path() : params.root) {
    const std::string path = params.source.string();
    const CsvTable table(params.source);
    const std::size_t file_column = table.column(params.file_column), label_column = table.column(params.label_column);
    std::unordered_map<std::string, int> line_of;
    std::vector<Entry> entries;
    for (const CsvTable::Row& row : table.rows()) {
      Entry entry;
      entry.id = row.fields[file_column];
      if (entry.id.empty()) fail(ExitCode::input, "{}:{}: column '{}' is empty", path, row.line, params.file_column);
      if (const auto [earlier, fresh] = line_of.emplace(entry.id, row.line); !fresh) {
        fail(ExitCode::input, "{}:{}: '{}' stands in line {} already", path, row.line, entry.id, earlier->second);
      }
      const std::string& text = row.fields[label_column];
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), entry.label);
      if (error != std::errc{} || end != text.data() + text.size() || entry.label < 0 || entry.label > kMaxLabel) {
        fail(ExitCode::input, "{}:{}: column '{}' is '{}'; expected a class index, a whole number from 0", path,
             row.line, params.label_column, text);
      }
      classes_ = std::max<std::int64_t>(classes_, entry.label + 1);
      std::error_code missing;
      entry.size = static_cast<std::int64_t>(fs::file_size(root_ / entry.id, missing));
      if (missing) {
        fail(ExitCode::input, "{}:{}: {}: {}; check the file or set root, the folder the names start from", path,
             row.line, (root_ / entry.id).string(), missing.message());
      }
      entries.push_back(std::move(entry));
    }
    take(std::move(entries), params);
    std::vector<std::string> stamps;
    for (const Entry& entry : entries_) stamps.push_back(std::to_string(file_state(root_ / entry.id).changed));
    remark_empty(params);
    seal("csv", params, stamps);
  }

  std::vector<std::byte> read(std::int64_t index) const override {
    const RandomAccessFile file(root_ / id(index));
    return file.read(0, file.size());
  }

  Image decode(std::int64_t index, std::span<const std::byte> bytes) const override {
    return decode_image(bytes, (root_ / id(index)).string());
  }

 private:
  fs::path root_;
};

}  // namespace

std::unique_ptr<ImageSet> open_csv_set(const ImageSetParams& params) {
  return std::make_unique<CsvSet>(params);
}

}  // namespace moextract::data
