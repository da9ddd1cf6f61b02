#include "openmmkstep/internal/networkKernels.h"
#include "openmmkstep/internal/vectorized.h"
#include <cmath>

// Inlined into each of the variants of VECTORIZED functions.
#define INLINED static inline __attribute__((always_inline))

namespace OpenMMKStep {

/** tanh(x) = (1-e)/(1+e) with e = exp(-2|x|), to 1e-7, in operations that vectorize. */
INLINED float tanhOf(float x) {
    float y = -2*fabsf(x);
    y = (y < -40.0f ? -40.0f : y);
    // exp(y) = 2^n exp(r) with |r| < ln(2)/2
    int n = (int) (y*1.44269504f-0.5f);
    float r = (y-n*0.693359375f)+n*2.12194440e-4f;
    float power = 1+r*(1+r*(1.0f/2+r*(1.0f/6+r*(1.0f/24+r*(1.0f/120+r*(1.0f/720+r*(1.0f/5040)))))));
    float e = power*__builtin_bit_cast(float, (n+127) << 23);
    float t = (1-e)/(1+e);
    return (x < 0 ? -t : t);
}

/** result = tanh(bias + weights^T x): rows of the weights are read one after the other, as they lie in memory. */
INLINED void applyLayer(int in, int out, const float* __restrict x, const float* __restrict weights, const float* __restrict bias, float* __restrict result) {
    for (int j = 0; j < out; j++)
        result[j] = bias[j];
    int i = 0;
    for (; i+4 <= in; i += 4) {
        const float* w = weights+i*out;
        const float a = x[i], b = x[i+1], c = x[i+2], d = x[i+3];
        for (int j = 0; j < out; j++)
            result[j] += (a*w[j]+b*w[out+j])+(c*w[2*out+j]+d*w[3*out+j]);
    }
    for (; i < in; i++)
        for (int j = 0; j < out; j++)
            result[j] += x[i]*weights[i*out+j];
    for (int j = 0; j < out; j++)
        result[j] = tanhOf(result[j]);
}

/** result = weights x, four rows at a time. */
INLINED void applyTransposed(int in, int out, const float* __restrict x, const float* __restrict weights, float* __restrict result) {
    int i = 0;
    for (; i+4 <= in; i += 4) {
        const float* w = weights+i*out;
        float a = 0, b = 0, c = 0, d = 0;
        for (int j = 0; j < out; j++) {
            a += w[j]*x[j];
            b += w[out+j]*x[j];
            c += w[2*out+j]*x[j];
            d += w[3*out+j]*x[j];
        }
        result[i] = a;
        result[i+1] = b;
        result[i+2] = c;
        result[i+3] = d;
    }
    for (; i < in; i++) {
        float sum = 0;
        for (int j = 0; j < out; j++)
            sum += weights[i*out+j]*x[j];
        result[i] = sum;
    }
}

VECTORIZED
void computeInverseDistances(int n, const double* __restrict dx, const double* __restrict dy, const double* __restrict dz, double* __restrict inverse) {
    for (int i = 0; i < n; i++)
        inverse[i] = 1/sqrt(dx[i]*dx[i]+dy[i]*dy[i]+dz[i]*dz[i]);
}

VECTORIZED
void multiplySymmetric(int n, const double* __restrict matrix, const double* __restrict x, const double* __restrict offset, double* __restrict result) {
    for (int i = 0; i < n; i++) {
        const double* row = matrix+i*n;
        double sum = 0;
        for (int j = 0; j < n; j++)
            sum += row[j]*x[j];
        result[i] = offset[i]+sum;
    }
}

VECTORIZED
double evaluateNetwork(int in, int h1, int h2, const float* x, const float* w1, const float* b1, const float* w2, const float* b2,
                       const float* w3, float* work, float* slope) {
    float *first = work, *second = first+h1, *slope2 = second+h2, *slope1 = slope2+h2;
    applyLayer(in, h1, x, w1, b1, first);
    applyLayer(h1, h2, first, w2, b2, second);
    double value = 0;
    for (int j = 0; j < h2; j++) {
        value += second[j]*w3[j];
        slope2[j] = w3[j]*(1-second[j]*second[j]);
    }
    applyTransposed(h1, h2, slope2, w2, slope1);
    for (int j = 0; j < h1; j++)
        slope1[j] *= 1-first[j]*first[j];
    applyTransposed(in, h1, slope1, w1, slope);
    return value;
}

} // namespace OpenMMKStep
