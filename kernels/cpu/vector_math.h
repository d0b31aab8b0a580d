// Lets the compiler use glibc's vector versions of exp, log1p and erf (libmvec) in `omp simd` loops.
//
// glibc's own headers announce them only under -ffast-math, which would also give up NaNs, infinities and the order of
// sums. Declared here they come without that: results differ from the scalar functions by at most 4 units in the last
// place, and do not depend on the number of threads.
#pragma once

#include <cmath>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 35)
extern "C" {
#pragma omp declare simd notinbranch
float expf(float) noexcept;
#pragma omp declare simd notinbranch
double exp(double) noexcept;
#pragma omp declare simd notinbranch
float log1pf(float) noexcept;
#pragma omp declare simd notinbranch
double log1p(double) noexcept;
#pragma omp declare simd notinbranch
float erff(float) noexcept;
#pragma omp declare simd notinbranch
double erf(double) noexcept;
}
#endif
