/* One symbol in each library of kernels, so that what uses it keeps it. */
#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)
extern const unsigned JOIN(simt_wave_, WAVE);
__attribute__((visibility("default"))) const unsigned JOIN(simt_wave_, WAVE) = WAVE;
