// Positions in the highest precision that the platform has.

#ifdef USE_MIXED_PRECISION
#define POSITION_ARGS GLOBAL real4* RESTRICT posq, GLOBAL real4* RESTRICT posqCorrection
#define LOAD_POSITION(index) loadPosition(posq, posqCorrection, index)
#define STORE_POSITION(index, position) storePosition(posq, posqCorrection, index, position)

inline DEVICE mixed4 loadPosition(GLOBAL const real4* RESTRICT posq, GLOBAL const real4* RESTRICT posqCorrection, int index) {
    real4 high = posq[index];
    real4 low = posqCorrection[index];
    return make_mixed4(high.x+(mixed) low.x, high.y+(mixed) low.y, high.z+(mixed) low.z, high.w);
}

inline DEVICE void storePosition(GLOBAL real4* RESTRICT posq, GLOBAL real4* RESTRICT posqCorrection, int index, mixed4 position) {
    posq[index] = make_real4((real) position.x, (real) position.y, (real) position.z, (real) position.w);
    posqCorrection[index] = make_real4((real) (position.x-(real) position.x), (real) (position.y-(real) position.y), (real) (position.z-(real) position.z), 0);
}
#else
#define POSITION_ARGS GLOBAL real4* RESTRICT posq
#define LOAD_POSITION(index) posq[index]
#define STORE_POSITION(index, position) posq[index] = position
#endif

/**
 * Positions of listed particles.  The last component is the particle.
 */
KERNEL void gatherPositions(int numListed, GLOBAL const int* RESTRICT particles, GLOBAL const int* RESTRICT order, GLOBAL mixed4* RESTRICT gathered, POSITION_ARGS) {
    for (int i = GLOBAL_ID; i < numListed; i += GLOBAL_SIZE) {
        mixed4 position = LOAD_POSITION(order[particles[i]]);
        gathered[i] = make_mixed4(position.x, position.y, position.z, particles[i]);
    }
}
