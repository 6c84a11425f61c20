/*
 * Operations on one token's row at a time: RMS norm, gated units, and the 8-bit rows that the integer products read.
 * Threads share out whole rows, so a row's bits depend on nothing but the row.
 *
 *   q = round(x · 127 / largest) + 128,   largest = max |x|        (models/int8.ts)
 */
