// A block of EfficientNet-Lite, with products in bf16 by the matrix units of Intel CPUs (AMX), and its gradient with
// respect to its input. XLA calls them through jax.ffi; see efficientnet.py.
//
// The block is a 1x1 convolution, relu6, a depthwise convolution, relu6 and a 1x1 convolution. Its gradient is the same
// in reverse order, with what relu6 let through in place of relu6. So both are two products with a depthwise
// convolution between them, and a few images at a time go through all three before the next ones: what is in between,
// six times as large as what goes in and out, never leaves the cache. Sums are float32 and do not depend on the threads.
// E, the channels in between, is a multiple of 16.

#include <vector>

namespace {

struct Block {
  ffi::ThreadPool& pool;
  const float* x;    // (B, H, W, K)
  const bf16* in;    // (K, E) as tiles (E / 16, K / 32) of 16 pairs of K by 16 of E, filled up with zeros to 32
  const float* taps;  // (k, k, E)
  const bf16* out;   // (E, N), likewise
  float* y;          // (B, height, width, N)
  int B, H, W, K, E, k, height, width, N;
  int step;          // of the taps
  int apart;         // pixels from one pixel to the next, where there are zeros between them
  int top, left;     // how far the first tap is before the first pixel
};

int Padded(int n) { return (n + 31) / 32 * 32; }

__mmask16 Some(int n) { return n >= 16 ? 0xffff : (1 << n) - 1; }

// The product of ``count`` rows (K) with a matrix (K, N): take(row, column, sixteen sums).
template <class Take>
void Product(const bf16* rows, int count, int K, const bf16* tiles, int N, const Take& take) {
  alignas(64) float sums[32][32];
  for (int n = 0; n < N; n += 32, tiles += 2 * 16 * K)
    for (int r = 0; r < count; r += 32) {
      Clear();
      const bf16 *from = rows + size_t(r) * K, *right = tiles, *next = tiles + 16 * K;
      for (int i = 0; i < K; i += 32, right += kTile, next += kTile)
        Multiply(from + i, from + i + 16 * K, K * sizeof(bf16), right, next);
      Store(&sums[0][0], 32);
      for (int i = 0; i < std::min(32, count - r); ++i)
        for (int c = n; c < std::min(n + 32, N); c += 16) take(r + i, c, _mm512_load_ps(&sums[i][c - n]));
    }
}

struct Range {  // of taps
  int first, end;
};

// The taps that see one of ``size`` pixels, where the first tap is at ``start``.
Range Seeing(int start, int k, int size) { return {std::max(0, -start), std::min(k, size - start)}; }

// ``pixels`` neighbours of the depthwise convolution, of 16 channels each: take(pixel, sixteen sums).
template <int pixels, class Take>
void Neighbours(const float* from, size_t row, Range down, Range across, const float* taps, int E, int k, int step,
                const Take& take) {
  __m512 sums[pixels];
  for (int p = 0; p < pixels; ++p) sums[p] = _mm512_setzero_ps();
  for (int i = down.first; i < down.end; ++i)
    for (int j = across.first; j < across.end; ++j) {
      const __m512 tap = _mm512_loadu_ps(taps + (i * k + j) * E);
      const float* pixel = from + i * row + j * E;
#pragma GCC unroll 4
      for (int p = 0; p < pixels; ++p) sums[p] = _mm512_fmadd_ps(tap, _mm512_load_ps(pixel + p * step * E), sums[p]);
    }
  for (int p = 0; p < pixels; ++p) take(p, sums[p]);
}

// ``first`` and ``second`` change sixteen sums, of pixels that are counted through the batch: (pixel, channel, sums).
// ``last`` changes those that go out: (channel, sums).
template <class First, class Second, class Last>
void Run(const Block& block, const First& first, const Second& second, const Last& last) {
  const Block& b = block;
  const int before = b.H * b.W, after = b.height * b.width, threads = std::max<int>(b.pool.num_threads(), 1);
  const int many = std::max(1, 64 / std::max(before, after));  // images that fill the tiles
  const int group = std::max(1, std::min(many, (b.B + threads - 1) / threads)), groups = (b.B + group - 1) / group;
  const int tasks = std::min(groups, 2 * threads);
  const int rows = (b.H - 1) * b.apart + 1, columns = (b.W - 1) * b.apart + 1;
  const size_t row = size_t(columns) * b.E, image = rows * row;
  const int K = Padded(b.K), E = Padded(b.E);
  ForEach(b.pool, tasks, [=](int task) {
    Tiles tiles;
    const size_t numbers[] = {size_t(Padded(group * before)) * K, 2 * group * image, size_t(Padded(group * after)) * E};
    Buffer buffers[3];
    for (int i = 0; i < 3; ++i) {
      buffers[i] = Allocate(numbers[i]);
      std::memset(buffers[i].get(), 0, numbers[i] * sizeof(bf16));
    }
    bf16 *narrow = buffers[0].get(), *wide = buffers[2].get();
    float* maps = reinterpret_cast<float*>(buffers[1].get());
    std::vector<size_t> place(group * before);  // of each pixel, in ``maps``
    for (int i = 0; i < group * before; ++i) {
      const int h = i % before / b.W, w = i % b.W;
      place[i] = i / before * image + h * b.apart * row + w * b.apart * b.E;
    }
    for (int g = task * groups / tasks; g < (task + 1) * groups / tasks; ++g) {
      const int start = g * group, images = std::min(group, b.B - start);
      const size_t from = size_t(start) * before, to = size_t(start) * after;
      for (int i = 0; i < images * before; ++i)
        for (int c = 0; c < b.K; c += 16) {
          const __m512 x = _mm512_maskz_loadu_ps(Some(b.K - c), b.x + (from + i) * b.K + c);
          _mm256_mask_storeu_epi16(narrow + size_t(i) * K + c, Some(b.K - c), (__m256i)_mm512_cvtneps_pbh(x));
        }
      Product(narrow, images * before, K, b.in, b.E, [&](int i, int c, __m512 sums) {
        _mm512_store_ps(maps + place[i] + c, first(from + i, c, sums));
      });
      for (int i = 0; i < images; ++i)
        for (int h = 0; h < b.height; ++h)
          for (int c = 0; c < b.E; c += 16)
            for (int w = 0; w < b.width;) {
              const int y = h * b.step - b.top, x = w * b.step - b.left;  // of the first tap
              const Range down = Seeing(y, b.k, rows), across = Seeing(x, b.k, columns);
              const float* pixel = maps + ptrdiff_t(i * image) + y * ptrdiff_t(row) + ptrdiff_t(x) * b.E + c;
              const int number = i * after + h * b.width + w;
              auto take = [&](int p, __m512 sums) {
                const __m512 changed = second(to + number + p, c, sums);
                _mm256_storeu_si256((__m256i*)(wide + size_t(number + p) * E + c), (__m256i)_mm512_cvtneps_pbh(changed));
              };
              if (w + 4 <= b.width && x >= 0 && x + 3 * b.step + b.k <= columns) {
                Neighbours<4>(pixel, row, down, across, b.taps + c, b.E, b.k, b.step, take);
                w += 4;
              } else {
                Neighbours<1>(pixel, row, down, across, b.taps + c, b.E, b.k, b.step, take);
                w += 1;
              }
            }
      Product(wide, images * after, E, b.out, b.N, [&](int i, int c, __m512 sums) {
        _mm512_mask_storeu_ps(b.y + (to + i) * b.N + c, Some(b.N - c), last(c, sums));
      });
    }
  });
}

using Numbers = ffi::Buffer<ffi::F32>;
using Tiled = ffi::Buffer<ffi::U16>;
using Masks = ffi::Buffer<ffi::U16>;  // (B, H, W, E / 16): a bit for each number, whether relu6 let it through

Block Described(ffi::ThreadPool& pool, Numbers x, Tiled in, Numbers taps, Tiled out, ffi::Result<Numbers> y, int step,
                int apart, int top, int left) {
  auto s = x.dimensions(), t = taps.dimensions(), u = y->dimensions();
  auto size = [](int64_t n) { return static_cast<int>(n); };
  return {pool,       x.typed_data(), in.typed_data(), taps.typed_data(), out.typed_data(), y->typed_data(), size(s[0]),
          size(s[1]), size(s[2]),     size(s[3]),      size(t[2]),        size(t[0]),       size(u[1]),      size(u[2]),
          size(u[3]), step,           apart,           top,               left};
}

// ``shifts`` are added to the three convolutions: E, E and N numbers.
ffi::Error Forward(ffi::ThreadPool pool, Numbers x, Tiled in, Numbers taps, Tiled out, Numbers shifts,
                   ffi::Result<Numbers> y, ffi::Result<Masks> first, ffi::Result<Masks> second, int64_t step,
                   int64_t top, int64_t left) {
  const Block block = Described(pool, x, in, taps, out, y, step, 1, top, left);
  auto relu6 = [E = block.E](const float* shift, uint16_t* masks) {
    return [=](size_t pixel, int c, __m512 sums) {
      const __m512 zero = _mm512_setzero_ps(), six = _mm512_set1_ps(6);
      const __m512 v = _mm512_add_ps(sums, _mm512_loadu_ps(shift + c));
      const __mmask16 inside = _mm512_cmp_ps_mask(v, zero, _CMP_GT_OQ) & _mm512_cmp_ps_mask(v, six, _CMP_LT_OQ);
      masks[pixel * (E / 16) + c / 16] = inside;
      return _mm512_max_ps(zero, _mm512_min_ps(six, v));  // in this order NaN stays NaN
    };
  };
  const float *s = shifts.typed_data(), *last = s + 2 * block.E;
  Run(block, relu6(s, first->typed_data()), relu6(s + block.E, second->typed_data()), [=](int c, __m512 sums) {
    return _mm512_add_ps(sums, _mm512_maskz_loadu_ps(Some(block.N - c), last + c));
  });
  return ffi::Error::Success();
}

// ``in`` and ``out`` are those of Forward turned and exchanged, and so are the masks. ``taps`` are in reverse order.
ffi::Error Gradient(ffi::ThreadPool pool, Numbers g, Tiled in, Numbers taps, Tiled out, Masks first, Masks second,
                    ffi::Result<Numbers> x, int64_t apart, int64_t top, int64_t left) {
  const Block block = Described(pool, g, in, taps, out, x, 1, apart, top, left);
  auto passed = [E = block.E](const uint16_t* masks) {
    return [=](size_t pixel, int c, __m512 sums) {
      return _mm512_maskz_mov_ps(masks[pixel * (E / 16) + c / 16], sums);
    };
  };
  Run(block, passed(first.typed_data()), passed(second.typed_data()), [](int, __m512 sums) { return sums; });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(block_amx_forward, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Numbers>()
                                  .Arg<Tiled>()
                                  .Arg<Numbers>()
                                  .Arg<Tiled>()
                                  .Arg<Numbers>()
                                  .Ret<Numbers>()
                                  .Ret<Masks>()
                                  .Ret<Masks>()
                                  .Attr<int64_t>("step")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(block_amx_gradient, Gradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Numbers>()
                                  .Arg<Tiled>()
                                  .Arg<Numbers>()
                                  .Arg<Tiled>()
                                  .Arg<Masks>()
                                  .Arg<Masks>()
                                  .Ret<Numbers>()
                                  .Attr<int64_t>("apart")
                                  .Attr<int64_t>("top")
                                  .Attr<int64_t>("left"));
