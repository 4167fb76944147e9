/* 3x3 convolutions by 2x2 tiles of their result (Winograd 1980; Lavin and Gray 2016), and their gradients:

     y = A' [(G w G') * (B' x B)] A     for each tile: w 3x3, x 4x4, y 2x2; * element by element, summed over channels

   so that 16 products replace 36. The gradients use the transposed maps of the same three transforms. The 16 places of
   a tile are 16 matrix products: rows are tiles, columns are channels. All factors are 1 or 1/2, so the rounding error
   is like that of the plain sum. */

#pragma once

#include "product.h"

enum { PLACES = 16, TILES = 64, APART = TILES + 1 }; /* tiles at a time; the odd distance avoids cache conflicts */

/* --- transforms; x (4, 4) with rows `wide` apart, places `apart` apart -------------------------------------------- */

INLINE void of_input(const vec *x, int64_t wide, int64_t step, vec *to, int64_t apart) {
    vec half[4][4];
    FOR(j, 4) {
        vec a = x[j * step], b = x[wide + j * step], c = x[2 * wide + j * step], d = x[3 * wide + j * step];
        half[0][j] = a - c, half[1][j] = b + c, half[2][j] = c - b, half[3][j] = b - d;
    }
    FOR(i, 4) {
        vec *row = to + 4 * i * apart, a = half[i][0], b = half[i][1], c = half[i][2], d = half[i][3];
        row[0] = a - c, row[apart] = b + c, row[2 * apart] = c - b, row[3 * apart] = b - d;
    }
}

/* Transpose of the map above, added to x. */
INLINE void add_input(const vec *from, int64_t apart, vec *x, int64_t wide, int64_t step) {
    vec half[4][4];
    FOR(j, 4) {
        vec a = from[j * apart], b = from[(4 + j) * apart], c = from[(8 + j) * apart], d = from[(12 + j) * apart];
        half[0][j] = a, half[1][j] = b - c + d, half[2][j] = b + c - a, half[3][j] = -d;
    }
    FOR(i, 4) {
        vec *row = x + i * wide, a = half[i][0], b = half[i][1], c = half[i][2], d = half[i][3];
        row[0] += a, row[step] += b - c + d, row[2 * step] += b + c - a, row[3 * step] -= d;
    }
}

INLINE void to_result(const vec *from, int64_t apart, vec y[2][2]) {
    vec half[2][4];
    FOR(j, 4) {
        vec a = from[j * apart], b = from[(4 + j) * apart], c = from[(8 + j) * apart], d = from[(12 + j) * apart];
        half[0][j] = a + b + c, half[1][j] = b - c - d;
    }
    FOR(i, 2) y[i][0] = half[i][0] + half[i][1] + half[i][2], y[i][1] = half[i][1] - half[i][2] - half[i][3];
}

/* Transpose of the map above. */
INLINE void of_slope(vec g[2][2], vec *to, int64_t apart) {
    vec half[4][2];
    FOR(j, 2) {
        vec a = g[0][j], b = g[1][j];
        half[0][j] = a, half[1][j] = a + b, half[2][j] = a - b, half[3][j] = -b;
    }
    FOR(i, 4) {
        vec *row = to + 4 * i * apart, a = half[i][0], b = half[i][1];
        row[0] = a, row[apart] = a + b, row[2 * apart] = a - b, row[3 * apart] = -b;
    }
}

INLINE void of_weights(vec w[3][3], vec *to, int64_t apart) {
    vec half[4][3];
    FOR(j, 3) {
        vec a = w[0][j], b = w[1][j], c = w[2][j];
        half[0][j] = a, half[1][j] = (a + b + c) / 2, half[2][j] = (a - b + c) / 2, half[3][j] = c;
    }
    FOR(i, 4) {
        vec *row = to + 4 * i * apart, a = half[i][0], b = half[i][1], c = half[i][2];
        row[0] = a, row[apart] = (a + b + c) / 2, row[2 * apart] = (a - b + c) / 2, row[3 * apart] = c;
    }
}

/* Transpose of the map above. */
INLINE void to_weights(const vec *from, int64_t apart, vec w[3][3]) {
    vec half[3][4];
    FOR(j, 4) {
        vec a = from[j * apart], b = from[(4 + j) * apart], c = from[(8 + j) * apart], d = from[(12 + j) * apart];
        half[0][j] = a + (b + c) / 2, half[1][j] = (b - c) / 2, half[2][j] = d + (b + c) / 2;
    }
    FOR(i, 3) {
        vec a = half[i][0], b = half[i][1], c = half[i][2], d = half[i][3];
        w[i][0] = a + (b + c) / 2, w[i][1] = (b - c) / 2, w[i][2] = d + (b + c) / 2;
    }
}
