/* The first bound of tagcheck/pruned.py in one pass: which rows and which columns of a tile have a pair
   whose bound is not negative. Products are of small integers and exact; nothing of a tile is stored.

   left         rows x width bytes, each a coordinate's step plus an offset, so never negative
   left_ends    rows x (mean coordinate, length of the rest)
   right        groups of 16 columns: width / 4 times (16 columns x 4 steps)
   right_ends   groups of 16 columns: 16 mean coordinates, 16 lengths of the rest, in units of a product of two steps
   constants    groups of 16 columns, in the same units
   diagonal     1 where the tile meets itself: then only columns after the row count
   row_flags    rows bytes, set to 1 where a row has a pair
   column_bits  a group's 16 columns, a bit set where a column has a pair
   width is a multiple of 4, groups is even; columns that do not exist have a constant far below zero. */

#include <stdint.h>

#if defined(_WIN32)
#define SHARED __declspec(dllexport)
#else
#define SHARED __attribute__((visibility("default")))
#endif

#define ARGUMENTS                                                                                          \
    const uint8_t *left, const float *left_ends, const int8_t *right, const float *right_ends,             \
    const int32_t *constants, int width, int rows, int groups, int diagonal, uint8_t *row_flags, uint16_t *column_bits
#define VALUES left, left_ends, right, right_ends, constants, width, rows, groups, diagonal, row_flags, column_bits

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>

#define ALWAYS static inline __attribute__((always_inline))

/* The columns of a group that come after a row of the same tile. */
ALWAYS uint32_t after(int row, int group)
{
    int first = row + 1 - 16 * group;
    return first <= 0 ? 0xffffu : first > 15 ? 0u : (0xffffu << first) & 0xffffu;
}

ALWAYS void note(uint32_t found, int row, int group, int diagonal, uint8_t *row_flags, uint16_t *column_bits)
{
    if (diagonal)
        found &= after(row, group);
    row_flags[row] |= found != 0;
    column_bits[group] |= (uint16_t)found;
}

ALWAYS int32_t four(const uint8_t *bytes)
{
    int32_t value;
    __builtin_memcpy(&value, bytes, 4);
    return value;
}

#define VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

/* `count` rows against two groups of columns. */
VNNI ALWAYS void block_vnni(ARGUMENTS, int count, int row, int group)
{
    __m512i sum[6][2];
    const int8_t *one = right + (int64_t)group * 16 * width, *two = one + 16 * width;
    const float *ends = right_ends + 32 * group;
    __m512i all = _mm512_set1_epi32(-1);

    for (int r = 0; r < count; r++)
        for (int c = 0; c < 2; c++)
            sum[r][c] = _mm512_loadu_si512(constants + 16 * (group + c));
    for (int k = 0; k < width; k += 4) {
        __m512i first = _mm512_loadu_si512(one + 16 * k), second = _mm512_loadu_si512(two + 16 * k);
        for (int r = 0; r < count; r++) {
            __m512i steps = _mm512_set1_epi32(four(left + (int64_t)(row + r) * width + k));
            sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], steps, first);
            sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], steps, second);
        }
    }
    for (int c = 0; c < 2; c++) {
        __m512 means = _mm512_loadu_ps(ends + 32 * c), rests = _mm512_loadu_ps(ends + 32 * c + 16);
        for (int r = 0; r < count; r++) {
            const float *mine = left_ends + 2 * (row + r);
            __m512 bound = _mm512_fmadd_ps(_mm512_set1_ps(mine[0]), means, _mm512_cvtepi32_ps(sum[r][c]));
            bound = _mm512_fmadd_ps(_mm512_set1_ps(mine[1]), rests, bound);
            sum[r][c] = _mm512_castps_si512(bound);
            all = _mm512_and_si512(all, sum[r][c]);
        }
    }
    if (__builtin_expect(_mm512_movepi32_mask(all) != 0xffffu, 0)) /* not every sign is negative */
        for (int r = 0; r < count; r++)
            for (int c = 0; c < 2; c++)
                note(~(uint32_t)_mm512_movepi32_mask(sum[r][c]) & 0xffffu, row + r, group + c, diagonal, row_flags, column_bits);
}

VNNI static void scan_vnni(ARGUMENTS)
{
    for (int group = 0; group < groups; group += 2) {
        int row = 0;
        for (; row + 6 <= rows; row += 6)
            block_vnni(VALUES, 6, row, group);
        for (; row < rows; row++)
            block_vnni(VALUES, 1, row, group);
    }
}

#define AVX2 __attribute__((target("avx2,fma")))

/* `count` rows against one group of columns, in two halves. Steps on the left stay below 128, so that two
   products of bytes cannot leave 16 bits. */
AVX2 ALWAYS void block_avx2(ARGUMENTS, int count, int row, int group)
{
    __m256i sum[4][2];
    const int8_t *columns = right + (int64_t)group * 16 * width;
    const float *ends = right_ends + 32 * group;
    const __m256i ones = _mm256_set1_epi16(1);

    for (int r = 0; r < count; r++)
        for (int c = 0; c < 2; c++)
            sum[r][c] = _mm256_loadu_si256((const __m256i *)(constants + 16 * group + 8 * c));
    for (int k = 0; k < width; k += 4) {
        __m256i first = _mm256_loadu_si256((const __m256i *)(columns + 16 * k));
        __m256i second = _mm256_loadu_si256((const __m256i *)(columns + 16 * k + 32));
        for (int r = 0; r < count; r++) {
            __m256i steps = _mm256_set1_epi32(four(left + (int64_t)(row + r) * width + k));
            sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(steps, first), ones));
            sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(_mm256_maddubs_epi16(steps, second), ones));
        }
    }
    for (int r = 0; r < count; r++) {
        const float *mine = left_ends + 2 * (row + r);
        uint32_t signs = 0;
        for (int c = 0; c < 2; c++) {
            __m256 bound = _mm256_fmadd_ps(_mm256_set1_ps(mine[0]), _mm256_loadu_ps(ends + 8 * c), _mm256_cvtepi32_ps(sum[r][c]));
            bound = _mm256_fmadd_ps(_mm256_set1_ps(mine[1]), _mm256_loadu_ps(ends + 16 + 8 * c), bound);
            signs |= (uint32_t)_mm256_movemask_ps(bound) << (8 * c);
        }
        if (__builtin_expect(signs != 0xffffu, 0))
            note(~signs & 0xffffu, row + r, group, diagonal, row_flags, column_bits);
    }
}

AVX2 static void scan_avx2(ARGUMENTS)
{
    for (int group = 0; group < groups; group++) {
        int row = 0;
        for (; row + 4 <= rows; row += 4)
            block_avx2(VALUES, 4, row, group);
        for (; row < rows; row++)
            block_avx2(VALUES, 1, row, group);
    }
}

/* What this processor can do: 2 for AVX-512 with VNNI, 1 for AVX2, 0 for neither. */
SHARED int tagcheck_level(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
}

SHARED void tagcheck_scan(int level, ARGUMENTS)
{
    if (level == 2)
        scan_vnni(VALUES);
    else
        scan_avx2(VALUES);
}

#else

SHARED int tagcheck_level(void)
{
    return 0;
}

SHARED void tagcheck_scan(int level, ARGUMENTS)
{
}

#endif
