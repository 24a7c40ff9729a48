#include "tools/train/fused_layers.h"

#include <cmath>

namespace zeromini::tools {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RmsShape {
  int64_t rows;
  int64_t width;
  float epsilon;
};

// Four accumulators, because one chain of additions would wait for itself.
float SumOfProducts(const float* a, const float* b, int64_t n) {
  constexpr int kLanes = 16;
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  float sum = 0;
  for (; i < n; ++i) sum += a[i] * b[i];
  for (float lane : lanes) sum += lane;
  return sum;
}

void RmsForward(const float* x, const float* w, const RmsShape& shape, float* y,
                float* scale) {
  const int64_t n = shape.width;
  for (int64_t r = 0; r < shape.rows; ++r, x += n, y += n) {
    const float mean = SumOfProducts(x, x, n) / static_cast<float>(n);
    const float s = 1.0f / std::sqrt(mean + shape.epsilon);
    scale[r] = s;
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] * s * w[i];
  }
}

struct RmsSaved {
  const float* x;
  const float* w;
  const float* scale;
};

// With h = x s and q = g w: dx = s (q - h mean(q h)), dw = sum over rows of g
// h.
void RmsBackward(const float* g, const RmsSaved& saved, const RmsShape& shape,
                 float* dx, float* dw) {
  const int64_t n = shape.width;
  std::vector<float> q(n);
  const float* x = saved.x;
  for (int64_t r = 0; r < shape.rows; ++r, x += n, g += n, dx += n) {
    const float s = saved.scale[r];
    for (int64_t i = 0; i < n; ++i) {
      q[i] = g[i] * saved.w[i];
      dw[i] += g[i] * x[i] * s;
    }
    const float mean =
        SumOfProducts(q.data(), x, n) * s / static_cast<float>(n);
    for (int64_t i = 0; i < n; ++i) dx[i] = s * (q[i] - x[i] * s * mean);
  }
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static torch::Tensor forward(AutogradContext* context,
                               const torch::Tensor& input,
                               const torch::Tensor& weight, double epsilon) {
    const torch::Tensor x = input.contiguous();
    const RmsShape shape = {x.numel() / x.size(-1), x.size(-1),
                            static_cast<float>(epsilon)};
    torch::Tensor y = torch::empty_like(x);
    torch::Tensor scale = torch::empty({shape.rows});
    RmsForward(x.data_ptr<float>(), weight.data_ptr<float>(), shape,
               y.data_ptr<float>(), scale.data_ptr<float>());
    context->save_for_backward({x, weight, scale});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor g = grads[0].contiguous();
    const RmsShape shape = {saved[2].numel(), g.size(-1), 0};
    torch::Tensor dx = torch::empty_like(g);
    torch::Tensor dw = torch::zeros_like(saved[1]);
    RmsBackward(g.data_ptr<float>(),
                {saved[0].data_ptr<float>(), saved[1].data_ptr<float>(),
                 saved[2].data_ptr<float>()},
                shape, dx.data_ptr<float>(), dw.data_ptr<float>());
    return {dx, dw, torch::Tensor()};
  }
};

struct Turn {
  HeadLayout layout;
  const float* cosines;
  const float* sines;
};

// One head at one position: (a, b) -> (a c - b s, b c + a s).
void RotatePair(const float* in, float* out, const float* c, const float* s,
                int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    out[i] = in[i] * c[i] - in[half + i] * s[i];
    out[half + i] = in[half + i] * c[i] + in[i] * s[i];
  }
}

void RotateForward(const float* in, const Turn& turn, float* out) {
  const HeadLayout& l = turn.layout;
  const int64_t half = l.head_dim / 2;
  for (int64_t b = 0; b < l.batch; ++b) {
    for (int64_t t = 0; t < l.time; ++t) {
      for (int64_t h = 0; h < l.heads; ++h, in += l.head_dim) {
        RotatePair(in, out + ((b * l.heads + h) * l.time + t) * l.head_dim,
                   turn.cosines + t * half, turn.sines + t * half, half);
      }
    }
  }
}

// The inverse of a rotation is its transpose: the same with -sin.
void RotateBackward(const float* in, const Turn& turn, float* out) {
  const HeadLayout& l = turn.layout;
  const int64_t half = l.head_dim / 2;
  for (int64_t b = 0; b < l.batch; ++b) {
    for (int64_t t = 0; t < l.time; ++t) {
      for (int64_t h = 0; h < l.heads; ++h, out += l.head_dim) {
        RotatePair(in + ((b * l.heads + h) * l.time + t) * l.head_dim, out,
                   turn.cosines + t * half, turn.sines + t * half, half);
      }
    }
  }
}

struct RotateFunction : torch::autograd::Function<RotateFunction> {
  static torch::Tensor forward(AutogradContext* context,
                               const torch::Tensor& input,
                               const HeadLayout& layout,
                               const torch::Tensor& cosines,
                               const torch::Tensor& sines) {
    const torch::Tensor x = input.contiguous();
    torch::Tensor out = torch::empty(
        {layout.batch * layout.heads, layout.time, layout.head_dim});
    RotateForward(x.data_ptr<float>(),
                  {layout, cosines.data_ptr<float>(), sines.data_ptr<float>()},
                  out.data_ptr<float>());
    context->saved_data["layout"] = std::vector<int64_t>{
        layout.batch, layout.time, layout.heads, layout.head_dim};
    context->save_for_backward({cosines, sines});
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const std::vector<int64_t> n = context->saved_data["layout"].toIntVector();
    const HeadLayout layout = {n[0], n[1], n[2], n[3]};
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor g = grads[0].contiguous();
    const torch::Tensor minus = saved[1].neg();
    torch::Tensor dx = torch::empty(
        {layout.batch * layout.time, layout.heads * layout.head_dim});
    RotateBackward(
        g.data_ptr<float>(),
        {layout, saved[0].data_ptr<float>(), minus.data_ptr<float>()},
        dx.data_ptr<float>());
    return {dx, torch::Tensor(), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor RmsNorm(const torch::Tensor& x, const torch::Tensor& weight,
                      double epsilon) {
  return RmsNormFunction::apply(x, weight, epsilon);
}

torch::Tensor RotateHeads(const torch::Tensor& x, const HeadLayout& layout,
                          const torch::Tensor& cosines,
                          const torch::Tensor& sines) {
  return RotateFunction::apply(x, layout, cosines, sines);
}

}  // namespace zeromini::tools
