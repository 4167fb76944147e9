/* Mean and squared deviations of many tiles, in double, merged pairwise (Chan, Golub and LeVeque 1979). */

#include "lanes.h"

#define EPSILON 1e-5 /* of BatchNorm */

typedef struct { double count, mean, squares; } Moments;

static inline void merge(Moments *into, Moments other) {
    if (other.count == 0) return;
    double count = into->count + other.count, apart = other.mean - into->mean;
    into->mean += apart * other.count / count;
    into->squares += other.squares + apart * apart * into->count * other.count / count;
    into->count = count;
}

static inline void add_moments(Moments *into, const vec *y, int64_t pixels) {
    vec sum = {0}, squares = {0};
    for (int64_t p = 0; p < pixels; p++) sum += y[p];
    vec mean = sum / (REAL)pixels;
    for (int64_t p = 0; p < pixels; p++) { vec apart = y[p] - mean; squares += apart * apart; }
    for (int l = 0; l < V; l++) merge(into + l, (Moments){pixels, mean[l], squares[l]});
}

/* Moments (thread, lane) -> mean and 1 / sqrt(variance + EPSILON) of each lane. */
static inline void normalisation(const Moments *moments, int64_t threads, int64_t lanes, REAL *mean, REAL *rstd) {
    for (int64_t i = 0; i < lanes; i++) {
        Moments all = {0};
        for (int64_t t = 0; t < threads; t++) merge(&all, moments[t * lanes + i]);
        mean[i] = all.mean;
        rstd[i] = 1 / sqrt(all.squares / all.count + EPSILON);
    }
}
