#ifndef OPENMMKSTEP_VECTORIZED_H_
#define OPENMMKSTEP_VECTORIZED_H_

/**
 * VECTORIZED functions are compiled several times, and the one with the widest instructions of the machine at hand is
 * chosen when the library is loaded.  Files that use it are compiled with -fassociative-math, so that sums vectorize.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORIZED __attribute__((target_clones("arch=x86-64-v4", "arch=haswell", "default")))
#else
#define VECTORIZED
#endif

#endif /*OPENMMKSTEP_VECTORIZED_H_*/
