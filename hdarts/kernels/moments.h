/* Mean and squared deviations of many tiles, in double, merged pairwise (Chan, Golub and LeVeque 1979). */

#pragma once

#include "lanes.h"

#define EPSILON 1e-5 /* of BatchNorm */

typedef struct { double count, mean[V], squares[V]; } Moments; /* of the lanes of a vector */
typedef struct { REAL count; vec mean, squares; } Tile;        /* the same, for few pixels */

INLINE void merge_lanes(Moments *into, double count, const double *mean, const double *squares) {
    if (count == 0) return;
    double all = into->count + count, share = count / all, weight = into->count * share;
    for (int l = 0; l < V; l++) {
        double apart = mean[l] - into->mean[l];
        into->mean[l] += apart * share;
        into->squares[l] += squares[l] + apart * apart * weight;
    }
    into->count = all;
}

static inline void merge_tile(Moments *into, Tile tile) {
    double mean[V], squares[V];
    for (int l = 0; l < V; l++) mean[l] = tile.mean[l], squares[l] = tile.squares[l];
    merge_lanes(into, tile.count, mean, squares);
}

/* Add vectors `step` apart to a tile; four independent sums hide the latency of the addition. */
static inline void add_tile(Tile *into, const vec *y, int64_t step, int64_t pixels) {
    vec sums[4] = {{0}}, squares[4] = {{0}};
    int64_t p = 0;
    for (; p + 4 <= pixels; p += 4) FOR(q, 4) sums[q] += y[(p + q) * step];
    for (; p < pixels; p++) sums[0] += y[p * step];
    vec mean = (sums[0] + sums[1] + sums[2] + sums[3]) / (REAL)pixels;
    for (p = 0; p + 4 <= pixels; p += 4)
        FOR(q, 4) { vec apart = y[(p + q) * step] - mean; squares[q] += apart * apart; }
    for (; p < pixels; p++) { vec apart = y[p * step] - mean; squares[0] += apart * apart; }
    REAL count = into->count + pixels, share = pixels / count;
    vec apart = mean - into->mean;
    into->mean += apart * share;
    into->squares += squares[0] + squares[1] + squares[2] + squares[3] + apart * apart * (into->count * share);
    into->count = count;
}

static inline void add_moments(Moments *into, const vec *y, int64_t step, int64_t pixels) {
    Tile tile = {0};
    add_tile(&tile, y, step, pixels);
    merge_tile(into, tile);
}

/* Moments (thread, vector) -> mean and 1 / sqrt(variance + EPSILON) of each lane. */
static inline void normalisation(const Moments *moments, int64_t threads, int64_t vectors, REAL *mean, REAL *rstd) {
    for (int64_t i = 0; i < vectors; i++) {
        Moments all = {0};
        for (int64_t t = 0; t < threads; t++) {
            const Moments *one = moments + t * vectors + i;
            merge_lanes(&all, one->count, one->mean, one->squares);
        }
        for (int l = 0; l < V; l++) {
            mean[i * V + l] = all.mean[l];
            rstd[i * V + l] = 1 / sqrt(all.squares[l] / (all.count > 0 ? all.count : 1) + EPSILON); /* 0: left out */
        }
    }
}

/* sums, for the gradient of BatchNorm: of g, and `apart` further those of g (y - mean). */
INLINE void add_gradients(int64_t lanes, const REAL *g, int64_t step, const vec *y, int64_t unit, vec mean,
                         int64_t pixels, double *sums, int64_t apart) {
    vec first[4] = {{0}}, second[4] = {{0}};
    int64_t p = 0;
    for (; p + 4 <= pixels; p += 4)
        FOR(q, 4) {
            vec one = gather(g + (p + q) * step, lanes);
            first[q] += one, second[q] += one * (y[(p + q) * unit] - mean);
        }
    for (; p < pixels; p++) {
        vec one = gather(g + p * step, lanes);
        first[0] += one, second[0] += one * (y[p * unit] - mean);
    }
    first[0] += first[1] + first[2] + first[3], second[0] += second[1] + second[2] + second[3];
    for (int l = 0; l < V; l++) sums[l] += first[0][l], sums[apart + l] += second[0][l];
}

/* Through BatchNorm: the gradient in y is factor (g - first - (y - mean) second). */
typedef struct { vec factor, first, second, mean; } Norm;

INLINE vec slope_of(int64_t lanes, Norm norm, const REAL *g, vec y) {
    return norm.factor * (gather(g, lanes) - norm.first - (y - norm.mean) * norm.second);
}
