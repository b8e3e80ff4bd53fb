// The three maps of conv.py, a 4x4 convolution of stride 2 and padding 1, its input gradient and its kernel gradient,
// with products in bf16 by the matrix units of Intel CPUs (AMX). XLA calls them through jax.ffi; see conv_amx.py.
//
// Numbers are rounded to bf16 and laid out by pixel, so that the rows of a tile are images: each tap of the kernel is
// then a product of tiles that lie there already, and no patch is copied. Sums are float32, in an order that does not
// depend on the threads. B, C and O are multiples of 32, H and W are even.

namespace {

// --- layouts ----------------------------------------------------------------------------------------------

// Where the numbers of a column of a 16x16 matrix are.
__m512i Column() {
  return _mm512_set_epi32(240, 224, 208, 192, 176, 160, 144, 128, 112, 96, 80, 64, 48, 32, 16, 0);
}

// x (B, H, W, C) -> (H + 2, W + 2, B, C) with a border of zeros.
Buffer ByPixel(ffi::ThreadPool& pool, const float* x, int B, int H, int W, int C) {
  Buffer to = Allocate(size_t(H + 2) * (W + 2) * B * C);
  bf16* out = to.get();
  ForEach(pool, H + 2, [=](int h) {
    for (int w = 0; w < W + 2; ++w) {
      bf16* pixel = out + (size_t(h) * (W + 2) + w) * B * C;
      if (h == 0 || h > H || w == 0 || w > W) {
        std::memset(pixel, 0, size_t(B) * C * sizeof(bf16));
        continue;
      }
      for (int b = 0; b < B; ++b) {
        const float* from = x + ((size_t(b) * H + h - 1) * W + w - 1) * C;
        for (int c = 0; c < C; c += 16) _mm256_storeu_si256((__m256i*)(pixel + size_t(b) * C + c), Rounded(from + c));
      }
    }
  });
  return to;
}

// The same as tiles (H + 2, W + 2, C / 16, B / 32) of 16 channels by 32 images.
Buffer ByChannel(ffi::ThreadPool& pool, const float* x, int B, int H, int W, int C) {
  Buffer to = Allocate(size_t(H + 2) * (W + 2) * B * C);
  bf16* out = to.get();
  const __m512i column = Column();
  const size_t image = size_t(H) * W * C;
  ForEach(pool, H + 2, [=](int h) {
    for (int w = 0; w < W + 2; ++w) {
      bf16* pixel = out + (size_t(h) * (W + 2) + w) * B * C;
      if (h == 0 || h > H || w == 0 || w > W) {
        std::memset(pixel, 0, size_t(B) * C * sizeof(bf16));
        continue;
      }
      const float* from = x + (size_t(h - 1) * W + w - 1) * C;
      for (int c = 0; c < C; c += 16)
        for (int b = 0; b < B; b += 32, pixel += kTile) {
          alignas(64) int pairs[16][16];  // of two images, by channel
          for (int p = 0; p < 16; ++p) {
            const float* first = from + (b + 2 * p) * image + c;
            _mm512_store_si512(pairs[p], Pairs(first, first + image));
          }
          for (int i = 0; i < 16; ++i)
            _mm512_store_si512(pixel + 32 * i, _mm512_i32gather_epi32(column, &pairs[0][i], 4));
        }
    }
  });
  return to;
}

// g (B, H, W, O) -> tiles (H, W, O / 16, B / 32) of 16 pairs of images by 16 channels.
Buffer ByPairs(ffi::ThreadPool& pool, const float* g, int B, int H, int W, int O) {
  Buffer to = Allocate(size_t(H) * W * B * O);
  bf16* out = to.get();
  const size_t image = size_t(H) * W * O;
  ForEach(pool, H, [=](int h) {
    for (int w = 0; w < W; ++w) {
      bf16* tile = out + (size_t(h) * W + w) * B * O;
      const float* from = g + (size_t(h) * W + w) * O;
      for (int o = 0; o < O; o += 16)
        for (int b = 0; b < B; b += 32, tile += kTile)
          for (int p = 0; p < 16; ++p) {
            const float* first = from + (b + 2 * p) * image + o;
            _mm512_store_si512(tile + 32 * p, Pairs(first, first + image));
          }
    }
  });
  return to;
}

// A kernel (4, 4, C, O) -> tiles (O / 16, 16 taps, C / 32) of 16 pairs of C by 16 of O.
Buffer KernelByPairs(ffi::ThreadPool& pool, const float* kernel, int C, int O) {
  Buffer to = Allocate(size_t(16) * C * O);
  bf16* out = to.get();
  ForEach(pool, O / 16, [=](int block) {
    bf16* tile = out + size_t(block) * 16 * 16 * C;
    for (int c = 0; c < 16 * C; c += 32, tile += kTile)  // a tap's channels follow one another
      for (int p = 0; p < 16; ++p) {
        const float* first = kernel + size_t(c + 2 * p) * O + 16 * block;
        _mm512_store_si512(tile + 32 * p, Pairs(first, first + O));
      }
  });
  return to;
}

// The same kernel -> tiles (C / 16, 16 taps, O / 32) of 16 pairs of O by 16 of C.
Buffer KernelTurned(ffi::ThreadPool& pool, const float* kernel, int C, int O) {
  Buffer to = Allocate(size_t(16) * C * O);
  bf16* out = to.get();
  const __m512i column = Column();
  ForEach(pool, C / 16, [=](int block) {
    bf16* tile = out + size_t(block) * 16 * 16 * O;
    for (int tap = 0; tap < 16; ++tap)
      for (int o = 0; o < O; o += 32, tile += kTile) {
        alignas(64) int pairs[16][16];  // of two of O, by C
        for (int c = 0; c < 16; ++c) {
          const float* from = kernel + (size_t(tap) * C + 16 * block + c) * O + o;
          const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from));
          _mm512_store_si512(pairs[c], (__m512i)both);
        }
        for (int p = 0; p < 16; ++p)
          _mm512_store_si512(tile + 32 * p, _mm512_i32gather_epi32(column, &pairs[0][p], 4));
      }
  });
  return to;
}

// --- products ----------------------------------------------------------------------------------------------

// The first of ``size`` channels of a part: they come by 32.
int First(int part, int parts, int size) { return part * (size / 32) / parts * 32; }

void Load(const float* from, size_t row) {
  _tile_loadd(0, from, row * 4);
  _tile_loadd(1, from + 16, row * 4);
  _tile_loadd(2, from + 16 * row, row * 4);
  _tile_loadd(3, from + 16 * row + 16, row * 4);
}

// x (B, H, W, C), kernel (4, 4, C, O) -> y (B, H / 2, W / 2, O)
void Convolve(ffi::ThreadPool& pool, const float* x, const float* kernel, float* y, int B, int H, int W, int C, int O) {
  Buffer images = ByPixel(pool, x, B, H, W, C), weights = KernelByPairs(pool, kernel, C, O);
  const bf16 *a = images.get(), *k = weights.get();
  const int h_out = H / 2, w_out = W / 2, parts = O >= 128 ? O / 64 : 1;
  ForEach(pool, h_out * parts, [=](int i) {
    Tiles tiles;
    const int h = i / parts, part = i % parts;
    for (int o = First(part, parts, O); o < First(part + 1, parts, O); o += 32)
      for (int w = 0; w < w_out; ++w)
        for (int b = 0; b < B; b += 32) {
          Clear();
          const bf16 *right = k + size_t(o / 16) * 16 * 16 * C, *next = right + 16 * 16 * C;
          for (int tap = 0; tap < 16; ++tap) {
            const bf16* left = a + ((size_t(2 * h + tap / 4) * (W + 2) + 2 * w + tap % 4) * B + b) * C;
            for (int c = 0; c < C; c += 32, right += kTile, next += kTile)
              Multiply(left + c, left + c + 16 * C, C * sizeof(bf16), right, next);
          }
          Store(y + ((size_t(b) * h_out + h) * w_out + w) * O + o, size_t(h_out) * w_out * O);
        }
  });
}

// g (B, H / 2, W / 2, O), kernel (4, 4, C, O) -> x (B, H, W, C)
void InputGradient(ffi::ThreadPool& pool, const float* g, const float* kernel, float* x, int B, int H, int W, int C,
                   int O) {
  const int height = H / 2, width = W / 2, parts = C >= 128 ? C / 64 : 1;
  Buffer images = ByPixel(pool, g, B, height, width, O), weights = KernelTurned(pool, kernel, C, O);
  const bf16 *a = images.get(), *k = weights.get();
  ForEach(pool, H * parts, [=](int i) {
    Tiles tiles;
    const int y = i / parts, part = i % parts;
    for (int c = First(part, parts, C); c < First(part + 1, parts, C); c += 32)
      for (int z = 0; z < W; ++z)
        for (int b = 0; b < B; b += 32) {
          Clear();
          for (int tap = 0; tap < 4; ++tap) {  // y + 1 = 2 h + kh, with h from -1 on, in front of which is a border
            const int kh = (y + 1) % 2 + tap / 2 * 2, kw = (z + 1) % 2 + tap % 2 * 2;
            const int h = (y + 1 - kh + 2) / 2, w = (z + 1 - kw + 2) / 2;
            const bf16* left = a + ((size_t(h) * (width + 2) + w) * B + b) * O;
            const bf16 *right = k + (size_t(c / 16) * 16 + 4 * kh + kw) * 16 * O, *next = right + 16 * 16 * O;
            for (int o = 0; o < O; o += 32, right += kTile, next += kTile)
              Multiply(left + o, left + o + 16 * O, O * sizeof(bf16), right, next);
          }
          Store(x + ((size_t(b) * H + y) * W + z) * C + c, size_t(H) * W * C);
        }
  });
}

// x (B, H, W, C), g (B, H / 2, W / 2, O) -> kernel (4, 4, C, O)
void KernelGradient(ffi::ThreadPool& pool, const float* x, const float* g, float* kernel, int B, int H, int W, int C,
                    int O) {
  const int height = H / 2, width = W / 2, parts = C >= 64 ? 2 : 1;
  const int rows = std::min(height, std::max(1, 16 / width));  // of products between load and store
  Buffer images = ByChannel(pool, x, B, H, W, C), gradients = ByPairs(pool, g, B, height, width, O);
  const bf16 *a = images.get(), *k = gradients.get();
  ForEach(pool, 4 * parts, [=](int i) {
    Tiles tiles;
    const int kh = i / parts, part = i % parts;
    for (int top = 0; top < height; top += rows)
      for (int kw = 0; kw < 4; ++kw)
        for (int c = First(part, parts, C); c < First(part + 1, parts, C); c += 32)
          for (int o = 0; o < O; o += 32) {
            float* sum = kernel + (size_t(4 * kh + kw) * C + c) * O + o;
            top ? Load(sum, O) : Clear();
            for (int h = top; h < std::min(top + rows, height); ++h)
              for (int w = 0; w < width; ++w) {
                const bf16* left = a + (size_t(2 * h + kh) * (W + 2) + 2 * w + kw) * B * C + size_t(c) * B;
                const bf16* right = k + (size_t(h) * width + w) * B * O + size_t(o) * B;
                for (int b = 0; b < B; b += 32, left += kTile, right += kTile)
                  Multiply(left, left + 16 * B, 64, right, right + 16 * B);
              }
            Store(sum, O);
          }
  });
}

enum { kConvolve, kInputGradient, kKernelGradient };

ffi::Error Call(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> a, ffi::Buffer<ffi::F32> b,
                ffi::ResultBuffer<ffi::F32> to, int64_t map) {
  auto s = map == kInputGradient ? to->dimensions() : a.dimensions();  // (B, H, W, C)
  auto function = map == kConvolve ? Convolve : map == kInputGradient ? InputGradient : KernelGradient;
  function(pool, a.typed_data(), b.typed_data(), to->typed_data(), s[0], s[1], s[2], s[3], b.dimensions()[3]);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(conv_amx, Call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("map"));
