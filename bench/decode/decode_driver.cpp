// Images a second of decoding, resizing and cropping on one thread, of pictures whose bytes are in memory.
// Usage: bench_decode FOLDER RESIZE shorter|squash bicubic|bilinear CROP ROUNDS OUTPUT
// Prints images/s of the best round, and milliseconds an image of its two parts; OUTPUT gets the crops, one after the
// other.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "data/preprocess.h"
#include "data/random_access_file.h"

using namespace moextract::data;

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr, "usage: bench_decode FOLDER RESIZE shorter|squash bicubic|bilinear CROP ROUNDS OUTPUT\n");
    return 2;
  }
  PreprocessParams params;
  params.resize = std::atoi(argv[2]);
  params.resize_mode = std::string_view(argv[3]) == "squash" ? ResizeMode::squash : ResizeMode::shorter;
  params.interpolation = std::string_view(argv[4]) == "bilinear" ? Interpolation::bilinear : Interpolation::bicubic;
  params.crop = std::atoi(argv[5]);
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[1])) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::vector<std::byte>> files;
  for (const auto& path : paths) {
    const RandomAccessFile file(path);
    files.push_back(file.read(0, file.size()));
  }
  using Clock = std::chrono::steady_clock;
  double best = 1e30, best_decode = 0;
  std::vector<Image> crops(files.size());
  for (int round = 0; round < std::atoi(argv[6]); ++round) {
    double decode = 0;
    const Clock::time_point start = Clock::now();
    for (std::size_t i = 0; i < files.size(); ++i) {
      const Clock::time_point before = Clock::now();
      const Image image = decode_image(files[i], "picture");
      decode += std::chrono::duration<double>(Clock::now() - before).count();
      crops[i] = resize_and_crop(image, params);
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (seconds < best) {
      best = seconds;
      best_decode = decode;
    }
  }
  std::ofstream out(argv[7], std::ios::binary);
  for (const Image& crop : crops) {
    out.write(reinterpret_cast<const char*>(crop.rgb.data()), static_cast<std::streamsize>(crop.rgb.size()));
  }
  const auto n = static_cast<double>(files.size());
  std::printf("%.2f %.4f %.4f\n", n / best, best_decode / n * 1e3, (best - best_decode) / n * 1e3);
  return out ? 0 : 1;
}
