#version 300 es
// One layer for all images of a batch: a transposed convolution, its bias, and ReLU or tanh. The kernel of the first
// layer is as large as its map, that of the others 4x4.
// A texture is read as one long row of texels, each with four channels ("a group").
//   activations: [image][group][y][x]
//   modulation:  [image][scales, then shifts][group out]
//   kernel:      [group out][group in][ky][kx][channel in the group in], then the biases [group out]
precision highp float;
precision highp int;
precision highp sampler2D;

uniform sampler2D source;
uniform sampler2D kernel;
uniform sampler2D modulation;
uniform ivec2 size;  // of the output: width and height
uniform int groupsIn;
uniform int groupsOut;
uniform bool first;  // 1x1 -> the first map; all others double the sides
uniform bool last;
uniform bool modulated;  // each image has scales and shifts of its own
uniform int alpha;  // the channel of the last layer that is alpha: 1 or 3, or 0 without
out vec4 result;

vec4 at(sampler2D texels, int i) {
  return texelFetch(texels, ivec2(i & 2047, i >> 11), 0);
}

vec4 product(int k, vec4 v) {
  return v.x * at(kernel, k) + v.y * at(kernel, k + 1) + v.z * at(kernel, k + 2) + v.w * at(kernel, k + 3);
}

// Colours that are multiplied by alpha, as the network draws them, to those of files, all from 0 to 1.
vec4 straight(vec4 v) {
  if (alpha == 0) return v;
  float opaque = alpha == 3 ? v.w : v.y;
  vec4 colours = opaque * 255.0 < 0.5 ? vec4(0.0) : min(v / opaque, 1.0);
  return alpha == 3 ? vec4(colours.xyz, opaque) : vec4(colours.x, opaque, 0.0, 0.0);
}

void main() {
  int i = int(gl_FragCoord.y) * 2048 + int(gl_FragCoord.x);
  int area = size.x * size.y, taps = first ? area : 16;
  int x = i % size.x, y = i / size.x % size.y, group = i / area % groupsOut, image = i / (area * groupsOut);
  vec4 sum = at(kernel, groupsOut * groupsIn * taps * 4 + group);
  if (first) {
    for (int p = 0; p < groupsIn; p++)
      sum += product(((group * groupsIn + p) * taps + y * size.x + x) * 4, at(source, image * groupsIn + p));
  } else {
    ivec2 before = size / 2;
    for (int tap = 0; tap < 4; tap++) {
      // Position s of the input reaches 2 s - 1 + k of the output.
      int ky = (y + 1) % 2 + 2 * (tap / 2), kx = (x + 1) % 2 + 2 * (tap % 2);
      int sy = (y + 1 - ky) / 2, sx = (x + 1 - kx) / 2;
      if (sy < 0 || sx < 0 || sy >= before.y || sx >= before.x) continue;
      for (int p = 0; p < groupsIn; p++)
        sum += product(((group * groupsIn + p) * 16 + ky * 4 + kx) * 4,
                       at(source, ((image * groupsIn + p) * before.y + sy) * before.x + sx));
    }
  }
  if (modulated) {
    int scale = image * 2 * groupsOut + group;
    sum = sum * at(modulation, scale) + at(modulation, scale + groupsOut);
  }
  result = last ? straight(tanh(clamp(sum, -9.0, 9.0)) * 0.5 + 0.5) : max(sum, 0.0);
}
