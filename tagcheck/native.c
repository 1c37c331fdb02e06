/* The bounds of tagcheck/pruned.py for some rows against all columns after them, in one pass: which pairs stay.

   A pair's bound is a product of small integers plus a number for its row and one for its column. It is first made
   from the early coordinates, for a block of pairs at once; where any of a block stays, from all of them; and for
   each pair that stays then, from many more coordinates of 16 bits. Sums of products and numbers are kept modulo
   2^16; the caller scales so that a whole bound, which is all whose sign is asked for, lies within 16 bits.

   left           4 rows, pair of coordinates, row: the two steps, each plus an offset that makes it positive, twice
   right          group of 32 columns, pair of coordinates, column: the two steps
                  pairs: `early` of them, one for the length of what these leave out, then the others up to `pairs`
   left_starts    row: the number for the early bound, what the bound of all has beside it
   right_starts   group of 32 columns: the same, 32 and 32
   longs          row: `width` coordinates, a multiple of 16; their product has to be at least `low`
   Rows and columns are counted from the first of all; rows from `row` to `end` are taken, both multiples of 4, groups
   from `group` to `groups`, columns after the row and before `count`, so no row from there on. `found` has room for
   `room` pairs of row and column; when a group's pairs might not fit, the search ends before it. Returns the number of pairs;
   `group` is where it ended. */

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

/* Those of 32 columns from `first` on, a bit each, that come after the row and stay. */
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

#define EACH(DO) DO(0) DO(1) DO(2) DO(3)
#define SIGNS 0xaaaaaaaau /* of numbers of 16 bits among the signs of bytes */

/* 4 rows against a group of columns, in two halves a and b. Steps are below 127 on the left and at most 127 on the
   right, so that two products cannot leave 16 bits. */
AVX2 ALWAYS int64_t block_avx2(const struct search *s, int64_t found, int64_t row, int64_t group)
{
    const uint8_t *left = s->left + row * s->pairs * 4;
    const int8_t *right = s->right + group * s->pairs * 64;
    const int16_t *here = s->left_starts + 2 * row, *there = s->right_starts + group * 64;
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
    found = note(s, found, ~(uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(a##r, b##r), 0xd8)), \
                 row + r, 32 * group);

    EACH(START)
    for (const uint8_t *end = left + 16 * s->early; left < end; left += 16, right += 64) {
        first = load(right), second = load(right + 32);
        EACH(ADD)
    }
    first = load(right), second = load(right + 32);
    EACH(LOOK)
    if (__builtin_expect(((uint32_t)_mm256_movemask_epi8(all) & SIGNS) == SIGNS, 1))
        return found;

    first = load(there + 32), second = load(there + 48);
    EACH(MORE)
    left += 16, right += 64;
    for (const uint8_t *end = left + 16 * (s->pairs - s->early - 1); left < end; left += 16, right += 64) {
        first = load(right), second = load(right + 32);
        EACH(ADD)
    }
    EACH(NOTE)
    return found;
#undef START
#undef ADD
#undef LOOK
#undef MORE
#undef NOTE
}

AVX2 static int64_t scan_avx2(struct search *s)
{
    int64_t found = 0;
    for (; s->group < s->groups && found + 32 * (s->end - s->row) <= s->room; s->group++)
        for (int64_t row = s->row; row < s->end; row += 4)
            found = block_avx2(s, found, row, s->group);
    return found;
}

#define AVX512 __attribute__((target("avx2,avx512f,avx512bw")))

/* 4 rows against a group of columns. */
AVX512 ALWAYS int64_t block_avx512(const struct search *s, int64_t found, int64_t row, int64_t group)
{
    const uint8_t *left = s->left + row * s->pairs * 4;
    const int8_t *right = s->right + group * s->pairs * 64;
    const int16_t *here = s->left_starts + 2 * row, *there = s->right_starts + group * 64;
    __m512i a0, a1, a2, a3, columns = _mm512_loadu_si512(there), all = _mm512_set1_epi16(-1);

#define PRODUCT(r) _mm512_maddubs_epi16(_mm512_set1_epi32(four(left + 4 * r)), columns)
#define START(r) a##r = _mm512_add_epi16(columns, _mm512_set1_epi16(here[2 * r]));
#define ADD(r) a##r = _mm512_add_epi16(a##r, PRODUCT(r));
#define LOOK(r) all = _mm512_and_si512(all, _mm512_add_epi16(a##r, PRODUCT(r)));
#define MORE(r) a##r = _mm512_add_epi16(a##r, _mm512_add_epi16(columns, _mm512_set1_epi16(here[2 * r + 1])));
#define NOTE(r) found = note(s, found, ~(uint32_t)_mm512_movepi16_mask(a##r), row + r, 32 * group);

    EACH(START)
    for (const uint8_t *end = left + 16 * s->early; left < end; left += 16, right += 64) {
        columns = _mm512_loadu_si512(right);
        EACH(ADD)
    }
    columns = _mm512_loadu_si512(right);
    EACH(LOOK)
    if (__builtin_expect((uint32_t)_mm512_movepi16_mask(all) == 0xffffffffu, 1))
        return found;

    columns = _mm512_loadu_si512(there + 32);
    EACH(MORE)
    left += 16, right += 64;
    for (const uint8_t *end = left + 16 * (s->pairs - s->early - 1); left < end; left += 16, right += 64) {
        columns = _mm512_loadu_si512(right);
        EACH(ADD)
    }
    EACH(NOTE)
    return found;
#undef PRODUCT
#undef START
#undef ADD
#undef LOOK
#undef MORE
#undef NOTE
}

AVX512 static int64_t scan_avx512(struct search *s)
{
    int64_t found = 0;
    for (; s->group < s->groups && found + 32 * (s->end - s->row) <= s->room; s->group++)
        for (int64_t row = s->row; row < s->end; row += 4)
            found = block_avx512(s, found, row, s->group);
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
