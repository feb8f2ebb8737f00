// Stands for the headers that are compiled with it: cmake/MoextractTorchHeaders.cmake.
namespace moextract {}
