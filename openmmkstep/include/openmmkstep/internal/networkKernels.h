#ifndef OPENMMKSTEP_NETWORKKERNELS_H_
#define OPENMMKSTEP_NETWORKKERNELS_H_

namespace OpenMMKStep {

/** inverse = 1/sqrt(dx^2+dy^2+dz^2), for n vectors. */
void computeInverseDistances(int n, const double* dx, const double* dy, const double* dz, double* inverse);

/** result = offset + matrix*x, with a row-major n x n matrix. */
void multiplySymmetric(int n, const double* matrix, const double* x, const double* offset, double* result);

/**
 * Evaluate w3.tanh(b2 + w2^T tanh(b1 + w1^T x)) and its gradient.
 *
 * @param in, h1, h2  inputs, units of the first and of the second layer
 * @param x           inputs
 * @param w1, w2      row-major weights, in x h1 and h1 x h2
 * @param work        room for 2*(h1+h2) numbers
 * @param slope       set to the derivatives by the inputs
 * @return the value
 */
double evaluateNetwork(int in, int h1, int h2, const float* x, const float* w1, const float* b1, const float* w2, const float* b2,
                       const float* w3, float* work, float* slope);

} // namespace OpenMMKStep

#endif /*OPENMMKSTEP_NETWORKKERNELS_H_*/
