/* The bounds of tagcheck/pruned.py for some rows against all columns after them, in one pass: which pairs stay.

   A pair's bound is a product of small integers plus a number for its row and one for its column. It is first made
   from the early coordinates, for a block of pairs at once; where any of a block stays, from all of them; and for
   each pair that stays then, from many more coordinates of 16 bits. Sums of products and numbers are kept modulo
   2^16; the caller scales so that a whole bound, which is all whose sign is asked for, lies within 16 bits.

   left           row, pair of coordinates: the two steps, each plus an offset that makes it positive, twice
   right          group of 32 columns, pair of coordinates, column: the two steps
                  pairs: `early` of them, one for the length of what these leave out, then the others up to `pairs`
   left_starts    row: the number for the early bound, what the bound of all has beside it
   right_starts   group of 32 columns: the same, 32 and 32
   longs          row: `width` coordinates, a multiple of 16; their product has to be at least `low`
   Rows and columns are counted from the first of all; rows from `row` to `end` are taken, groups from `group` to
   `groups`, columns after the row and before `count`. `found` has room for `room` pairs of row and column; when a
   group's pairs might not fit, the search ends before it. Returns the number of pairs; `group` is where it ended. */

#include <stdint.h>

#if defined(_WIN32)
#define SHARED __declspec(dllexport)
#else
#define SHARED __attribute__((visibility("default")))
#endif

struct search {
    const uint8_t *left;
    const int8_t *right;
    const int16_t *left_starts, *right_starts, *longs;
    int32_t early, pairs, width, low;
    int64_t row, end, group, groups, count, room;
    int32_t *found;
};

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>

#define ALWAYS static inline __attribute__((always_inline))
#define ROWS 4

ALWAYS int32_t four(const uint8_t *bytes)
{
    int32_t value;
    __builtin_memcpy(&value, bytes, 4);
    return value;
}

#define AVX2 __attribute__((target("avx2")))

AVX2 ALWAYS __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

AVX2 static int long_stays(const struct search *s, int64_t row, int64_t column)
{
    const int16_t *one = s->longs + row * s->width, *two = s->longs + column * s->width;
    __m256i sum = _mm256_setzero_si256();
    for (int k = 0; k < s->width; k += 16)
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(load(one + k), load(two + k)));
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    return _mm_cvtsi128_si32(half) >= s->low;
}

/* Those of 16 or 32 columns from `first` on, a bit each, that come after the row and stay. */
AVX2 static int64_t note(const struct search *s, int64_t found, uint32_t bits, int64_t row, int64_t first)
{
    for (; bits; bits &= bits - 1) {
        int64_t column = first + __builtin_ctz(bits);
        if (column > row && column < s->count && long_stays(s, row, column)) {
            s->found[2 * found] = (int32_t)row;
            s->found[2 * found + 1] = (int32_t)column;
            found++;
        }
    }
    return found;
}

#define SIGNS 0xaaaaaaaau /* of numbers of 16 bits among the signs of bytes */

/* `rows` rows against a group of columns, in two halves. Steps are below 127 on the left and at most 127 on the
   right, so that two products cannot leave 16 bits. */
AVX2 ALWAYS int64_t block_avx2(const struct search *s, int64_t found, int64_t row, int64_t group, int rows)
{
    __m256i sum[ROWS][2], all = _mm256_set1_epi8(-1);
    const uint8_t *left = s->left + row * s->pairs * 4;
    const int8_t *right = s->right + group * s->pairs * 64;
    const int16_t *starts = s->right_starts + group * 64;
    const int stride = s->pairs * 4;

    for (int r = 0; r < rows; r++) {
        __m256i start = _mm256_set1_epi16(s->left_starts[2 * (row + r)]);
        sum[r][0] = _mm256_add_epi16(start, load(starts));
        sum[r][1] = _mm256_add_epi16(start, load(starts + 16));
    }
    for (int k = 0; k < s->early; k++) {
        __m256i first = load(right + 64 * k), second = load(right + 64 * k + 32);
        for (int r = 0; r < rows; r++) {
            __m256i steps = _mm256_set1_epi32(four(left + r * stride + 4 * k));
            sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(steps, first));
            sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(steps, second));
        }
    }
    __m256i first = load(right + 64 * s->early), second = load(right + 64 * s->early + 32);
    for (int r = 0; r < rows; r++) {
        __m256i steps = _mm256_set1_epi32(four(left + r * stride + 4 * s->early));
        all = _mm256_and_si256(all, _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(steps, first)));
        all = _mm256_and_si256(all, _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(steps, second)));
    }
    if (__builtin_expect(((uint32_t)_mm256_movemask_epi8(all) & SIGNS) == SIGNS, 1))
        return found;

    for (int r = 0; r < rows; r++) {
        __m256i start = _mm256_set1_epi16(s->left_starts[2 * (row + r) + 1]);
        sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_add_epi16(start, load(starts + 32)));
        sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_add_epi16(start, load(starts + 48)));
    }
    for (int k = s->early + 1; k < s->pairs; k++) {
        first = load(right + 64 * k), second = load(right + 64 * k + 32);
        for (int r = 0; r < rows; r++) {
            __m256i steps = _mm256_set1_epi32(four(left + r * stride + 4 * k));
            sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(steps, first));
            sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(steps, second));
        }
    }
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++) { /* to a bit each: of a pair of bytes with one sign, the lower is dropped */
            __m256i signs = _mm256_packs_epi16(_mm256_srai_epi16(sum[r][half], 15), _mm256_setzero_si256());
            uint32_t negative = (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(signs, 0xd8));
            found = note(s, found, ~negative & 0xffffu, row + r, 32 * group + 16 * half);
        }
    return found;
}

AVX2 static int64_t scan_avx2(struct search *s)
{
    int64_t found = 0;
    for (; s->group < s->groups && found + 32 * (s->end - s->row) <= s->room; s->group++) {
        int64_t row = s->row;
        for (; row + ROWS <= s->end; row += ROWS)
            found = block_avx2(s, found, row, s->group, ROWS);
        for (; row < s->end; row++)
            found = block_avx2(s, found, row, s->group, 1);
    }
    return found;
}

#define AVX512 __attribute__((target("avx2,avx512f,avx512bw")))
#define MORE_ROWS 8

/* `rows` rows against a group of columns. */
AVX512 ALWAYS int64_t block_avx512(const struct search *s, int64_t found, int64_t row, int64_t group, int rows)
{
    __m512i sum[MORE_ROWS], all = _mm512_set1_epi16(-1);
    const uint8_t *left = s->left + row * s->pairs * 4;
    const int8_t *right = s->right + group * s->pairs * 64;
    const int16_t *starts = s->right_starts + group * 64;
    const int stride = s->pairs * 4;

    for (int r = 0; r < rows; r++)
        sum[r] = _mm512_add_epi16(_mm512_set1_epi16(s->left_starts[2 * (row + r)]), _mm512_loadu_si512(starts));
    for (int k = 0; k < s->early; k++) {
        __m512i columns = _mm512_loadu_si512(right + 64 * k);
        for (int r = 0; r < rows; r++) {
            __m512i steps = _mm512_set1_epi32(four(left + r * stride + 4 * k));
            sum[r] = _mm512_add_epi16(sum[r], _mm512_maddubs_epi16(steps, columns));
        }
    }
    __m512i columns = _mm512_loadu_si512(right + 64 * s->early);
    for (int r = 0; r < rows; r++) {
        __m512i steps = _mm512_set1_epi32(four(left + r * stride + 4 * s->early));
        all = _mm512_and_si512(all, _mm512_add_epi16(sum[r], _mm512_maddubs_epi16(steps, columns)));
    }
    if (__builtin_expect((uint32_t)_mm512_movepi16_mask(all) == 0xffffffffu, 1))
        return found;

    for (int r = 0; r < rows; r++) {
        __m512i start = _mm512_set1_epi16(s->left_starts[2 * (row + r) + 1]);
        sum[r] = _mm512_add_epi16(sum[r], _mm512_add_epi16(start, _mm512_loadu_si512(starts + 32)));
    }
    for (int k = s->early + 1; k < s->pairs; k++) {
        columns = _mm512_loadu_si512(right + 64 * k);
        for (int r = 0; r < rows; r++) {
            __m512i steps = _mm512_set1_epi32(four(left + r * stride + 4 * k));
            sum[r] = _mm512_add_epi16(sum[r], _mm512_maddubs_epi16(steps, columns));
        }
    }
    for (int r = 0; r < rows; r++)
        found = note(s, found, ~(uint32_t)_mm512_movepi16_mask(sum[r]), row + r, 32 * group);
    return found;
}

AVX512 static int64_t scan_avx512(struct search *s)
{
    int64_t found = 0;
    for (; s->group < s->groups && found + 32 * (s->end - s->row) <= s->room; s->group++) {
        int64_t row = s->row;
        for (; row + MORE_ROWS <= s->end; row += MORE_ROWS)
            found = block_avx512(s, found, row, s->group, MORE_ROWS);
        for (; row < s->end; row++)
            found = block_avx512(s, found, row, s->group, 1);
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

SHARED int64_t tagcheck_search(int level, struct search *search)
{
    return level == 2 ? scan_avx512(search) : scan_avx2(search);
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
