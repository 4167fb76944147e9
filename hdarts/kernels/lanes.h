/* Shared by all C files: vectors of channels, the sizes of a convolution, and scratch memory per thread.

   Compiled with REAL (float or double) and V (lanes of a vector: 4, 8 or 16), see bindings.py. Each thread has a fixed
   range of images; sums are over its images, then over threads: the same number of threads gives the same bits. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef REAL vec __attribute__((vector_size(V * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef __typeof__((vec){0} < (vec){0}) mask;

typedef struct {
    int64_t images, height, width, channels; /* of the input */
    int64_t sources, nodes;                  /* edges = sources * nodes; edge = source * nodes + node */
    int64_t kernel, stride, dilation;
    int64_t threads;
} Shape;

static inline int64_t chunks_of(const Shape *s) { return (s->channels + V - 1) / V; }
static inline int64_t edges_of(const Shape *s) { return s->sources * s->nodes; }
static inline int64_t padding_of(const Shape *s) { return s->dilation * (s->kernel / 2); }
static inline int64_t rows_out(const Shape *s) { return (s->height - 1) / s->stride + 1; }
static inline int64_t columns_out(const Shape *s) { return (s->width - 1) / s->stride + 1; }
static inline int64_t pixels_out(const Shape *s) { return rows_out(s) * columns_out(s); }
static inline int64_t lanes_of(const Shape *s, int64_t chunk) {
    int64_t left = s->channels - chunk * V;
    return left < V ? left : V;
}

static inline vec relu(vec x) { return (vec)((mask)x & ~(x < 0)); } /* propagates nan */

/* Keep x, a vector, in a register: compilers load it anew for each of its uses, and loads would then set the pace. */
#if defined(__AVX512F__)
enum { REGISTER = 64 };
#elif defined(__AVX__)
enum { REGISTER = 32 };
#else
enum { REGISTER = 16 };
#endif
#if defined(__x86_64__)
#define KEEP(x) (void)__builtin_choose_expr(sizeof(vec) <= REGISTER, ({ __asm__("" : "+v"(x)); 0; }), 0)
#elif defined(__aarch64__)
#define KEEP(x) (void)__builtin_choose_expr(sizeof(vec) <= REGISTER, ({ __asm__("" : "+w"(x)); 0; }), 0)
#else
#define KEEP(x) (void)(x)
#endif

/* x with lanes i and i ^ n exchanged (the same lane where n >= V); GCC and clang make one shuffle of it. */
#define LANE(x, i, n) x[((i) ^ (n)) % V]
#define FOUR(x, i, n) LANE(x, i, n), LANE(x, i + 1, n), LANE(x, i + 2, n), LANE(x, i + 3, n)
#if V == 4
#define SWAPPED(x, n) (vec){FOUR(x, 0, n)}
#elif V == 8
#define SWAPPED(x, n) (vec){FOUR(x, 0, n), FOUR(x, 4, n)}
#else
#define SWAPPED(x, n) (vec){FOUR(x, 0, n), FOUR(x, 4, n), FOUR(x, 8, n), FOUR(x, 12, n)}
#endif

/* The sum of all lanes, halves first. */
static inline REAL sum_of(vec x) {
    if (V > 8) x += SWAPPED(x, 8);
    if (V > 4) x += SWAPPED(x, 4);
    x += SWAPPED(x, 2);
    x += SWAPPED(x, 1);
    return x[0];
}

/* Memory for vectors, aligned: those that cross a line of the cache take twice the time. NULL if there is none. */
static inline vec *vectors(int64_t count) {
    return aligned_alloc(64, (count * sizeof(vec) + 63) / 64 * 64);
}

/* Scratch memory of the thread, kept between calls: fresh pages cost more than the work done in them. */
static inline vec *scratch(int64_t count) {
    static _Thread_local vec *memory = NULL;
    static _Thread_local int64_t size = 0;
    if (count > size) {
        free(memory);
        memory = vectors(count);
        size = memory ? count : 0;
    }
    return memory;
}

/* --- loading and storing --------------------------------------------------------------------------------------- */

/* Load one chunk of one pixel of a channels-last image. */
static inline vec gather(const REAL *from, int64_t lanes) {
    if (lanes == V) return *(const vec *)from;
    vec x = {0};
    for (int64_t l = 0; l < lanes; l++) x[l] = from[l];
    return x;
}

/* Store one chunk of one pixel. */
static inline void put(vec x, REAL *to, int64_t lanes) {
    if (lanes == V) *(vec *)to = x;
    else for (int64_t l = 0; l < lanes; l++) to[l] = x[l];
}

/* sums (n) = parts (thread, n) summed over the threads */
static inline void sum_threads(const double *parts, int64_t threads, int64_t n, double *sums) {
    for (int64_t i = 0; i < n; i++) {
        sums[i] = 0;
        for (int64_t t = 0; t < threads; t++) sums[i] += parts[t * n + i];
    }
}

#define FOR(i, n) for (int i = 0; i < (n); i++)
#define ANY(call, ...) (lanes == V ? call(V, __VA_ARGS__) : call(lanes, __VA_ARGS__)) /* no branch per pixel */
#define INLINE static inline __attribute__((always_inline))
#define FOR_THREADS _Pragma("omp parallel for schedule(static, 1) num_threads(s->threads)")
#define GROUPS_OF(t, together) /* of images */ \
    int64_t end = s->images * ((t) + 1) / s->threads, n = s->images * (t) / s->threads, images; \
    images = end - n < (together) ? end - n : (together), n < end; n += images
#define IMAGES_OF(t) int64_t n = s->images * (t) / s->threads; n < s->images * ((t) + 1) / s->threads; n++
