#version 300 es
// One layer for all images of a batch: a 4x4 transposed convolution, its bias, and ReLU or tanh.
// A texture is read as one long row of texels, each with four channels ("a group").
//   activations: [image][group][y][x]
//   kernel:      [group out][group in][4 ky + kx][channel in the group in], then the biases [group out]
precision highp float;
precision highp int;
precision highp sampler2D;

uniform sampler2D source;
uniform sampler2D kernel;
uniform int side;  // of the output
uniform int groupsIn;
uniform int groupsOut;
uniform bool first;  // 1x1 -> 4x4; all others double the side
uniform bool last;
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
  int x = i % side, y = i / side % side, group = i / (side * side) % groupsOut, image = i / (side * side * groupsOut);
  vec4 sum = at(kernel, groupsOut * groupsIn * 64 + group);
  if (first) {
    for (int p = 0; p < groupsIn; p++)
      sum += product(((group * groupsIn + p) * 16 + y * 4 + x) * 4, at(source, image * groupsIn + p));
  } else {
    int before = side / 2;
    for (int tap = 0; tap < 4; tap++) {
      // Position s of the input reaches 2 s - 1 + k of the output.
      int ky = (y + 1) % 2 + 2 * (tap / 2), kx = (x + 1) % 2 + 2 * (tap % 2);
      int sy = (y + 1 - ky) / 2, sx = (x + 1 - kx) / 2;
      if (sy < 0 || sx < 0 || sy >= before || sx >= before) continue;
      for (int p = 0; p < groupsIn; p++)
        sum += product(((group * groupsIn + p) * 16 + ky * 4 + kx) * 4,
                       at(source, ((image * groupsIn + p) * before + sy) * before + sx));
    }
  }
  result = last ? straight(tanh(clamp(sum, -9.0, 9.0)) * 0.5 + 0.5) : max(sum, 0.0);
}
