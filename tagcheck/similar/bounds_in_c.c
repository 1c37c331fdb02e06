/* The bounds of bounded_search.py for the rows of one part against those of all parts from it on: which pairs stay.

   Two parts at a time. Their rows are placed along the line between the parts' centres; two rows further apart on it
   than `reach` allows are further apart altogether, and out. So the rows of either part that lie within reach of the
   other part are packed in order along the line, and a group of columns meets only the rows that it can reach.

   A pair's bound is a product of small integers plus a number for its row and one for its column. It is first made
   from the early coordinates, for a block of pairs at once; where any of a block stays, from all of them; and for
   each pair that stays then, from many more coordinates of 16 bits. Sums of products and numbers are kept modulo
   2^16; the caller scales so that a whole bound, which is all whose sign is asked for, lies within 16 bits.

   left           row, coordinate: steps, plus an offset that makes them positive
   right          row, coordinate: steps
                  `early` pairs of coordinates, one for the length of what these leave out, then the others, `pairs` in
                  all, and room to `stride`, a multiple of 8
   left_starts    row: the number for the early bound, what the bound of all has beside it
   right_starts   row: the same
   longs          row: `width` coordinates, a multiple of 16; the product of the first `middle`, a multiple of 16 too, has
                  to be at least `low`, and so has that of all but the last of these, which bounds the others
   points         group of 32 rows, pair of coordinates, row: the steps of the coordinates that parts are ordered by, in
                  `point_pairs` pairs; a part begins a group of its own, and its last row is repeated to fill its last group
   point_starts   group of 32 rows, row: less OFFSET times the sum of these steps
   centres        part, coordinate: the middle of its points
   firsts         part: its first row, and at the end the number of rows; parts have at most `most` rows
   groups         part: its first group
   reach          how far apart two points of a pair can be, in steps
   length         of a direction, in steps: so that no point is out of 16 bits on the line
   Rows of `part` are taken against those of `other` up to `parts`, the columns; within a part, columns after the row.
   `found` has room for `room` pairs of row and column; when a group's pairs might not fit, the search ends before it,
   and `other` and `group` say where. Returns the number of pairs, or -1 where there is no memory. */

#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#define SHARED __declspec(dllexport)
#else
#define SHARED __attribute__((visibility("default")))
#endif

struct search {
    const uint8_t *left;
    const int8_t *right;
    const int16_t *left_starts, *right_starts, *longs;
    const int8_t *points;
    const int16_t *point_starts;
    const float *centres;
    const int64_t *firsts, *groups;
    float reach, length;
    int32_t early, pairs, stride, middle, width, low, point_pairs;
    int64_t most, part, other, group, parts, room;
    int32_t *found;
};

/* GCC for Windows may keep vectors where they are not aligned. */
#if defined(__x86_64__) && (defined(__clang__) || (defined(__GNUC__) && !defined(_WIN32)))
#include <immintrin.h>

#define ALWAYS static inline __attribute__((always_inline))
#define OFFSET 63  /* makes steps of a direction positive, of which none is further from 0 */
#define MOST_POINT_PAIRS 128
#define BUCKETS 256

/* Rows and columns of two parts in the order along the line, packed for products: rows in blocks of 4, columns in
   groups of 32. */
struct tile {
    uint8_t *left;  /* block, pair of coordinates, row: the two steps twice */
    int8_t *right;  /* group, pair of coordinates, column: the two steps */
    int16_t *left_starts, *right_starts;  /* row: two; group: 32 and 32 */
    int32_t *rows, *columns;
    int32_t row_count, column_count;
};

ALWAYS int32_t four(const uint8_t *bytes)
{
    int32_t value;
    __builtin_memcpy(&value, bytes, 4);
    return value;
}

ALWAYS uint32_t two(const void *bytes)
{
    uint16_t value;
    __builtin_memcpy(&value, bytes, 2);
    return value;
}

ALWAYS float root(float square)
{
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(square)));
}

#define AVX2 __attribute__((target("avx2")))

AVX2 ALWAYS __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

AVX2 ALWAYS int32_t long_product(const int16_t *one, const int16_t *two, int32_t from, int32_t to)
{
    __m256i sum = _mm256_setzero_si256();
    for (int32_t k = from; k < to; k += 16)
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(load(one + k), load(two + k)));
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    return _mm_cvtsi128_si32(half);
}

AVX2 static int long_stays(const struct search *s, int64_t row, int64_t column)
{
    const int16_t *one = s->longs + row * s->width, *two = s->longs + column * s->width;
    int32_t last = s->middle - 1, sum = long_product(one, two, 0, s->middle);
    return sum >= s->low && sum - one[last] * two[last] + long_product(one, two, s->middle, s->width) >= s->low;
}

/* Those of a group's columns, a bit each, that come after the row and stay. */
AVX2 static int64_t note(const struct search *s, const struct tile *t, int64_t found, uint32_t bits, int32_t row, int32_t group)
{
    if (row >= t->row_count)
        return found;
    for (; bits; bits &= bits - 1) {
        int32_t column = 32 * group + __builtin_ctz(bits);
        if (column >= t->column_count)
            return found;
        int32_t i = t->rows[row], j = t->columns[column];
        if (j > i && long_stays(s, i, j)) {
            s->found[2 * found] = i;
            s->found[2 * found + 1] = j;
            found++;
        }
    }
    return found;
}

#define EACH(DO) DO(0) DO(1) DO(2) DO(3)
#define SIGNS 0xaaaaaaaau /* of numbers of 16 bits among the signs of bytes */

/* Rows from `row` to `end`, 4 at a time, against a group of columns, in two halves a and b. Steps are below 127 on the
   left and at most 127 on the right, so that two products cannot leave 16 bits. */
AVX2 static int64_t meet_avx2(const struct search *s, const struct tile *t, int64_t found, int32_t row, int32_t end, int32_t group)
{
    const int16_t *there = t->right_starts + group * 64;
    for (; row < end; row += 4) {
        const uint8_t *left = t->left + (int64_t)row * s->stride * 4;
        const int8_t *right = t->right + (int64_t)group * s->stride * 64;
        const int16_t *here = t->left_starts + 2 * row;
        __m256i a0, a1, a2, a3, b0, b1, b2, b3, first = load(there), second = load(there + 16), all = _mm256_set1_epi8(-1);

#define START(r)                                                                                                       \
    a##r = _mm256_add_epi16(first, _mm256_set1_epi16(here[2 * r]));                                                    \
    b##r = _mm256_add_epi16(second, _mm256_set1_epi16(here[2 * r]));
#define ADD(r)                                                                                                         \
    {                                                                                                                  \
        __m256i steps = _mm256_set1_epi32(four(left + 4 * r));                                                         \
        a##r = _mm256_add_epi16(a##r, _mm256_maddubs_epi16(steps, first));                                             \
        b##r = _mm256_add_epi16(b##r, _mm256_maddubs_epi16(steps, second));                                            \
    }
#define LOOK(r)                                                                                                        \
    {                                                                                                                  \
        __m256i steps = _mm256_set1_epi32(four(left + 4 * r));                                                         \
        all = _mm256_and_si256(all, _mm256_add_epi16(a##r, _mm256_maddubs_epi16(steps, first)));                       \
        all = _mm256_and_si256(all, _mm256_add_epi16(b##r, _mm256_maddubs_epi16(steps, second)));                      \
    }
#define MORE(r)                                                                                                        \
    a##r = _mm256_add_epi16(a##r, _mm256_add_epi16(first, _mm256_set1_epi16(here[2 * r + 1])));                        \
    b##r = _mm256_add_epi16(b##r, _mm256_add_epi16(second, _mm256_set1_epi16(here[2 * r + 1])));
#define NOTE(r) /* a byte for each sign; packing takes turns between the halves of its arguments, which is put right */ \
    found = note(s, t, found, ~(uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(a##r, b##r), 0xd8)), \
                 row + r, group);

        EACH(START)
        for (const uint8_t *stop = left + 16 * s->early; left < stop; left += 16, right += 64) {
            first = load(right), second = load(right + 32);
            EACH(ADD)
        }
        first = load(right), second = load(right + 32);
        EACH(LOOK)
        if (((uint32_t)_mm256_movemask_epi8(all) & SIGNS) == SIGNS)
            continue;

        first = load(there + 32), second = load(there + 48);
        EACH(MORE)
        left += 16, right += 64;
        for (const uint8_t *stop = left + 16 * (s->pairs - s->early - 1); left < stop; left += 16, right += 64) {
            first = load(right), second = load(right + 32);
            EACH(ADD)
        }
        EACH(NOTE)
    }
    return found;
#undef START
#undef ADD
#undef LOOK
#undef MORE
#undef NOTE
}

/* Where the points of the groups from `group` to `end` are on a line of the given direction. */
AVX2 static void place_avx2(const struct search *s, const uint8_t *direction, int64_t group, int64_t end, int16_t *along)
{
    const int8_t *points = s->points + group * s->point_pairs * 64;
    for (; group < end; group++, along += 32) {
        __m256i first = load(s->point_starts + group * 32), second = load(s->point_starts + group * 32 + 16);
        for (int k = 0; k < s->point_pairs; k++, points += 64) {
            __m256i steps = _mm256_set1_epi16((int16_t)two(direction + 2 * k));
            first = _mm256_add_epi16(first, _mm256_maddubs_epi16(steps, load(points)));
            second = _mm256_add_epi16(second, _mm256_maddubs_epi16(steps, load(points + 32)));
        }
        _mm256_storeu_si256((__m256i *)along, first);
        _mm256_storeu_si256((__m256i *)(along + 16), second);
    }
}

#define AVX512 __attribute__((target("avx2,avx512f,avx512bw")))

/* Rows from `row` to `end`, 4 at a time, against a group of columns. */
AVX512 static int64_t meet_avx512(const struct search *s, const struct tile *t, int64_t found, int32_t row, int32_t end, int32_t group)
{
    const int16_t *there = t->right_starts + group * 64;
    for (; row < end; row += 4) {
        const uint8_t *left = t->left + (int64_t)row * s->stride * 4;
        const int8_t *right = t->right + (int64_t)group * s->stride * 64;
        const int16_t *here = t->left_starts + 2 * row;
        __m512i a0, a1, a2, a3, columns = _mm512_loadu_si512(there), all = _mm512_set1_epi16(-1);

#define PRODUCT(r) _mm512_maddubs_epi16(_mm512_set1_epi32(four(left + 4 * r)), columns)
#define START(r) a##r = _mm512_add_epi16(columns, _mm512_set1_epi16(here[2 * r]));
#define ADD(r) a##r = _mm512_add_epi16(a##r, PRODUCT(r));
#define LOOK(r) all = _mm512_and_si512(all, _mm512_add_epi16(a##r, PRODUCT(r)));
#define MORE(r) a##r = _mm512_add_epi16(a##r, _mm512_add_epi16(columns, _mm512_set1_epi16(here[2 * r + 1])));
#define NOTE(r) found = note(s, t, found, ~(uint32_t)_mm512_movepi16_mask(a##r), row + r, group);

        EACH(START)
        for (const uint8_t *stop = left + 16 * s->early; left < stop; left += 16, right += 64) {
            columns = _mm512_loadu_si512(right);
            EACH(ADD)
        }
        columns = _mm512_loadu_si512(right);
        EACH(LOOK)
        if ((uint32_t)_mm512_movepi16_mask(all) == 0xffffffffu)
            continue;

        columns = _mm512_loadu_si512(there + 32);
        EACH(MORE)
        left += 16, right += 64;
        for (const uint8_t *stop = left + 16 * (s->pairs - s->early - 1); left < stop; left += 16, right += 64) {
            columns = _mm512_loadu_si512(right);
            EACH(ADD)
        }
        EACH(NOTE)
    }
    return found;
#undef PRODUCT
#undef START
#undef ADD
#undef LOOK
#undef MORE
#undef NOTE
}

AVX512 static void place_avx512(const struct search *s, const uint8_t *direction, int64_t group, int64_t end, int16_t *along)
{
    const int8_t *points = s->points + group * s->point_pairs * 64;
    for (; group < end; group++, along += 32) {
        __m512i sum = _mm512_loadu_si512(s->point_starts + group * 32);
        for (int k = 0; k < s->point_pairs; k++, points += 64)
            sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(_mm512_set1_epi16((int16_t)two(direction + 2 * k)), _mm512_loadu_si512(points)));
        _mm512_storeu_si512(along, sum);
    }
}

/* The direction from one part's centre to another's in whole steps, plus OFFSET; returns how far apart two points of a
   pair can be on a line of it. Any direction is right, this one sets the two parts apart. */
static int32_t line_between(const struct search *s, int64_t part, int64_t other, uint8_t *direction)
{
    const float *one = s->centres + part * 2 * s->point_pairs, *two = s->centres + other * 2 * s->point_pairs;
    float squares = 0, largest = 0;
    for (int k = 0; k < 2 * s->point_pairs; k++) {
        float apart = two[k] < one[k] ? one[k] - two[k] : two[k] - one[k];
        squares += apart * apart;
        largest = apart > largest ? apart : largest;
    }
    float scale = largest > 0 ? s->length / root(squares) : 0;
    if (scale * largest > OFFSET)
        scale = OFFSET / largest;
    int32_t square = 0;
    for (int k = 0; k < 2 * s->point_pairs; k++) {
        int32_t steps = _mm_cvtss_si32(_mm_set_ss((two[k] - one[k]) * scale));
        direction[k] = (uint8_t)(OFFSET + steps);
        square += steps * steps;
    }
    return (int32_t)(root((float)square) * s->reach) + 1;
}

/* The rows of a part from `low` to `high` on the line, in the order of their buckets along it. `ends` tells where each
   bucket begins among them, and at the end their number. */
static int32_t pick(const int16_t *along, int64_t first, int64_t count, int32_t low, int32_t high, int32_t base, int32_t shift,
                    int32_t *spare, int32_t *picked, int32_t *ends)
{
    int32_t within = 0;
    for (int b = 0; b <= BUCKETS; b++)
        ends[b] = 0;
    for (int32_t i = 0; i < count; i++) {
        spare[within] = i;
        within += along[i] >= low && along[i] <= high;
    }
    for (int32_t i = 0; i < within; i++)
        ends[(along[spare[i]] - base) >> shift]++;
    for (int32_t b = 0, before = 0; b <= BUCKETS; b++) {
        int32_t here = ends[b];
        ends[b] = before;
        before += here;
    }
    for (int32_t i = 0; i < within; i++)
        picked[ends[(along[spare[i]] - base) >> shift]++] = (int32_t)first + spare[i];
    for (int b = BUCKETS; b > 0; b--)
        ends[b] = ends[b - 1];
    ends[0] = 0;
    return within;
}

#define LOW(a, b) _mm_unpacklo_epi16(a, b)
#define HIGH(a, b) _mm_unpackhi_epi16(a, b)
#define LOW2(a, b) _mm_unpacklo_epi32(a, b)
#define HIGH2(a, b) _mm_unpackhi_epi32(a, b)
#define LOW4(a, b) _mm_unpacklo_epi64(a, b)
#define HIGH4(a, b) _mm_unpackhi_epi64(a, b)

/* A block of 4 rows, `which`, 8 pairs of coordinates at a time. */
static void pack_rows(const struct search *s, const int32_t *which, uint8_t *to)
{
    const uint8_t *from[4];
    for (int r = 0; r < 4; r++)
        from[r] = s->left + (int64_t)which[r] * s->stride * 2;
    for (int32_t k = 0; k < 2 * s->stride; k += 16) {
        __m128i row[4], half[4];
        for (int r = 0; r < 4; r++)
            row[r] = _mm_loadu_si128((const __m128i *)(from[r] + k));
        for (int high = 0; high < 2; high++) {
            for (int r = 0; r < 4; r++)
                half[r] = high ? HIGH(row[r], row[r]) : LOW(row[r], row[r]);
            __m128i a = LOW2(half[0], half[1]), b = HIGH2(half[0], half[1]), c = LOW2(half[2], half[3]), d = HIGH2(half[2], half[3]);
            __m128i *there = (__m128i *)(to + 8 * k + 64 * high);
            _mm_storeu_si128(there, LOW4(a, c)), _mm_storeu_si128(there + 1, HIGH4(a, c));
            _mm_storeu_si128(there + 2, LOW4(b, d)), _mm_storeu_si128(there + 3, HIGH4(b, d));
        }
    }
}

/* 8 columns of a group, `which`, 8 pairs of coordinates at a time. */
static void pack_columns(const struct search *s, const int32_t *which, int8_t *to)
{
    for (int32_t k = 0; k < 2 * s->stride; k += 16) {
        __m128i c[8], d[8];
        for (int j = 0; j < 8; j++)
            c[j] = _mm_loadu_si128((const __m128i *)(s->right + (int64_t)which[j] * s->stride * 2 + k));
        for (int j = 0; j < 4; j++)
            d[2 * j] = LOW(c[2 * j], c[2 * j + 1]), d[2 * j + 1] = HIGH(c[2 * j], c[2 * j + 1]);
        for (int j = 0; j < 2; j++) {
            c[4 * j] = LOW2(d[4 * j], d[4 * j + 2]), c[4 * j + 1] = HIGH2(d[4 * j], d[4 * j + 2]);
            c[4 * j + 2] = LOW2(d[4 * j + 1], d[4 * j + 3]), c[4 * j + 3] = HIGH2(d[4 * j + 1], d[4 * j + 3]);
        }
        for (int j = 0; j < 4; j++) {
            _mm_storeu_si128((__m128i *)(to + 32 * k + 128 * j), LOW4(c[j], c[j + 4]));
            _mm_storeu_si128((__m128i *)(to + 32 * k + 128 * j + 64), HIGH4(c[j], c[j + 4]));
        }
    }
}

/* Pack the picked rows and columns; the last of either is repeated to fill its block or group. */
static void pack(const struct search *s, struct tile *t)
{
    int32_t rows = (t->row_count + 3) / 4 * 4, columns = (t->column_count + 31) / 32 * 32;
    for (int32_t row = t->row_count; row < rows; row++)
        t->rows[row] = t->rows[t->row_count - 1];
    for (int32_t column = t->column_count; column < columns; column++)
        t->columns[column] = t->columns[t->column_count - 1];
    for (int32_t row = 0; row < rows; row += 4)
        pack_rows(s, t->rows + row, t->left + (int64_t)row * s->stride * 4);
    for (int32_t row = 0; row < rows; row++)
        __builtin_memcpy(t->left_starts + 2 * row, s->left_starts + 2 * (int64_t)t->rows[row], 4);
    for (int32_t column = 0; column < columns; column += 8)
        pack_columns(s, t->columns + column, t->right + (int64_t)(column / 32) * s->stride * 64 + column % 32 * 2);
    for (int32_t column = 0; column < columns; column++) {
        const int16_t *from = s->right_starts + 2 * (int64_t)t->columns[column];
        int16_t *to = t->right_starts + column / 32 * 64 + column % 32;
        to[0] = from[0], to[32] = from[1];
    }
}

static void extent(const int16_t *along, int64_t count, int32_t *low, int32_t *high)
{
    int16_t least = along[0], most = along[0];
    for (int64_t i = 1; i < count; i++) {
        least = along[i] < least ? along[i] : least;
        most = along[i] > most ? along[i] : most;
    }
    *low = least, *high = most;
}

/* One part against another, from the group that the search has come to. Returns the number of pairs found until now. */
static int64_t meet_parts(int level, struct search *s, struct tile *t, int16_t *along, int32_t *spare, int64_t found)
{
    uint8_t direction[2 * MOST_POINT_PAIRS];
    int64_t first = s->firsts[s->part], rows = s->firsts[s->part + 1] - first;
    int64_t second = s->firsts[s->other], columns = s->firsts[s->other + 1] - second;
    int16_t *across = along + (s->most + 31) / 32 * 32;
    int32_t row_ends[BUCKETS + 1], column_ends[BUCKETS + 1], low, high, column_low, column_high;
    int32_t reach = line_between(s, s->part, s->other, direction);
    (level == 2 ? place_avx512 : place_avx2)(s, direction, s->groups[s->part], s->groups[s->part + 1], along);
    (level == 2 ? place_avx512 : place_avx2)(s, direction, s->groups[s->other], s->groups[s->other + 1], across);
    extent(along, rows, &low, &high);
    extent(across, columns, &column_low, &column_high);

    int32_t base = (low > column_low ? low : column_low) - reach, top = (high < column_high ? high : column_high) + reach, shift = 0;
    while ((top - base) >> shift >= BUCKETS)
        shift++;
    t->row_count = pick(along, first, rows, column_low - reach, column_high + reach, base, shift, spare, t->rows, row_ends);
    t->column_count = pick(across, second, columns, low - reach, high + reach, base, shift, spare, t->columns, column_ends);
    if (!t->row_count || !t->column_count)
        return found;
    pack(s, t);
    int32_t ends = (t->column_count + 31) / 32;
    for (; s->group < ends; s->group++) {
        int32_t last = 32 * (int32_t)s->group + 31;
        last = last < t->column_count ? last : t->column_count - 1;
        int32_t nearest = (across[t->columns[32 * s->group] - second] - base) >> shift << shift;  /* from the base on */
        int32_t furthest = (((across[t->columns[last] - second] - base) >> shift << shift) | ((1 << shift) - 1));
        int32_t from = nearest < reach ? 0 : (nearest - reach) >> shift, to = (furthest + reach) >> shift;
        int32_t begin = row_ends[from] / 4 * 4, end = (row_ends[to < BUCKETS ? to + 1 : BUCKETS] + 3) / 4 * 4;
        if (found + 32 * (int64_t)(end - begin) > s->room)
            return found;
        found = (level == 2 ? meet_avx512 : meet_avx2)(s, t, found, begin, end, (int32_t)s->group);
    }
    return found;
}

/* What this processor can do: 2 for AVX-512 with BW, 1 for AVX2, 0 for neither. */
SHARED int tagcheck_level(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2"))
        return 0;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") ? 2 : 1;
}

SHARED int64_t tagcheck_search(int level, struct search *s)
{
    int64_t found = 0, most = (s->most + 31) / 32 * 32;
    int16_t *along = malloc(2 * most * sizeof *along);
    int32_t *spare = malloc((most + 1) * sizeof *spare);
    struct tile t = {
        malloc(most * s->stride * 4), malloc(most * s->stride * 2), malloc(most * 4), malloc(most * 4), malloc(most * 4), malloc(most * 4), 0, 0,
    };
    if (!along || !spare || !t.left || !t.right || !t.left_starts || !t.right_starts || !t.rows || !t.columns)
        found = -1;
    for (int full = found < 0; !full && s->other < s->parts;) {
        found = meet_parts(level, s, &t, along, spare, found);
        full = s->group < (t.row_count ? (t.column_count + 31) / 32 : 0);
        if (!full)
            s->other++, s->group = 0;
    }
    free(along), free(spare);
    free(t.left), free(t.right), free(t.left_starts), free(t.right_starts), free(t.rows), free(t.columns);
    return found;
}

#else

SHARED int tagcheck_level(void)
{
    return 0;
}

SHARED int64_t tagcheck_search(int level, struct search *search)
{
    return 0;
}

#endif
