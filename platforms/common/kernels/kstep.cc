// The work of IntegrateKStepStepKernel.  Forces of the slots are kept in the order of the particles, so that sorting the
// atoms leaves them valid.

KERNEL void copyForces(GLOBAL const mm_long* RESTRICT forces, GLOBAL mm_long* RESTRICT slot, GLOBAL const int* RESTRICT atomIndex, int scale, int keep) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
        int particle = atomIndex[i];
        for (int j = 0; j < 3; j++)
            slot[particle+j*PADDED_NUM_ATOMS] = keep*slot[particle+j*PADDED_NUM_ATOMS]+scale*forces[i+j*PADDED_NUM_ATOMS];
    }
}

/** A force that is infinite or not a number becomes the largest integer, which other forces may be added to. */
inline DEVICE mixed toForce(mm_long force) {
    mixed value = force/(mixed) 0x100000000;
    return (fabs(value) < (mixed) 0x40000000 ? value : sqrt((mixed) -1));
}

inline DEVICE mixed4 addKick(mixed4 velocity, GLOBAL const mm_long* RESTRICT slot, int particle, mixed interval) {
    mixed scale = interval*velocity.w;
    velocity.x += scale*toForce(slot[particle]);
    velocity.y += scale*toForce(slot[particle+PADDED_NUM_ATOMS]);
    velocity.z += scale*toForce(slot[particle+2*PADDED_NUM_ATOMS]);
    return velocity;
}

KERNEL void kick(GLOBAL mixed4* RESTRICT velm, GLOBAL const mm_long* RESTRICT slot, GLOBAL const int* RESTRICT atomIndex, mixed interval) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE)
        if (velm[i].w != 0)
            velm[i] = addKick(velm[i], slot, atomIndex[i], interval);
}

/** A kick of the particles with Langevin friction only: velocities at another time. */
KERNEL void shiftVelocities(GLOBAL mixed4* RESTRICT velm, GLOBAL const mm_long* RESTRICT slot, GLOBAL const int* RESTRICT atomIndex, mixed interval,
        GLOBAL const int* RESTRICT region, GLOBAL const int* RESTRICT hasFriction) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE)
        if (velm[i].w != 0 && hasFriction[region[atomIndex[i]]] != 0)
            velm[i] = addKick(velm[i], slot, atomIndex[i], interval);
}

/** The move of a System without constraints. */
KERNEL void moveFreely(GLOBAL const mixed4* RESTRICT velm, GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT stays, mixed interval, POSITION_ARGS) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
        mixed4 velocity = velm[i];
        if (velocity.w != 0 && stays[atomIndex[i]] == 0) {
            mixed4 position = LOAD_POSITION(i);
            position.x += interval*velocity.x;
            position.y += interval*velocity.y;
            position.z += interval*velocity.z;
            STORE_POSITION(i, position);
        }
    }
}

KERNEL void beginMove(GLOBAL const mixed4* RESTRICT velm, GLOBAL mixed4* RESTRICT posDelta, GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT stays, mixed interval) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
        mixed4 velocity = velm[i];
        bool moves = (velocity.w != 0 && stays[atomIndex[i]] == 0);
        mixed t = (moves ? interval : 0);
        posDelta[i] = make_mixed4(t*velocity.x, t*velocity.y, t*velocity.z, 0);
    }
}

/** The displacement that constraints cause is also added to the velocities (RATTLE). */
KERNEL void endMove(GLOBAL mixed4* RESTRICT velm, GLOBAL const mixed4* RESTRICT posDelta, GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT stays, mixed interval, POSITION_ARGS) {
    mixed scale = 1/interval;
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
        mixed w = velm[i].w;
        if (w != 0 && stays[atomIndex[i]] == 0) {
            mixed4 delta = posDelta[i];
            mixed4 position = LOAD_POSITION(i);
            velm[i] = make_mixed4(delta.x*scale, delta.y*scale, delta.z*scale, w);
            position.x += delta.x;
            position.y += delta.y;
            position.z += delta.z;
            STORE_POSITION(i, position);
        }
    }
}

/**
 * Philox4x32 with ten rounds: four random words out of a counter and a key.
 * Salmon, Moraes, Dror, Shaw, SC11, 16 (2011), doi 10.1145/2063384.2063405.
 */
inline DEVICE void philox(unsigned int* counter, unsigned int key0, unsigned int key1) {
    for (int round = 0; round < 10; round++) {
        mm_ulong product0 = (mm_ulong) 0xD2511F53u*counter[0];
        mm_ulong product1 = (mm_ulong) 0xCD9E8D57u*counter[2];
        unsigned int next0 = (unsigned int) (product1>>32) ^ counter[1] ^ key0;
        unsigned int next2 = (unsigned int) (product0>>32) ^ counter[3] ^ key1;
        counter[1] = (unsigned int) product1;
        counter[3] = (unsigned int) product0;
        counter[0] = next0;
        counter[2] = next2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

/** Three normal deviates by the Box-Muller transformation. */
inline DEVICE mixed4 makeNoise(int particle, unsigned int draw0, unsigned int draw1, unsigned int key0, unsigned int key1) {
    unsigned int words[4] = {(unsigned int) particle, draw0, draw1, 0};
    philox(words, key0, key1);
    const mixed unit = UNIT_OF_WORDS; // 2^-32
    const mixed turn = TWO_PI*unit;
    mixed radius0 = sqrt(-2*log((words[0]+(mixed) 0.5)*unit));
    mixed radius1 = sqrt(-2*log((words[2]+(mixed) 0.5)*unit));
    mixed angle0 = words[1]*turn;
    mixed angle1 = words[3]*turn;
    return make_mixed4(radius0*cos(angle0), radius0*sin(angle0), radius1*cos(angle1), 0);
}

/**
 * An exact Ornstein-Uhlenbeck step.  The noise belongs to the particle and the number of the draw, not to the order of
 * the atoms.
 *
 * @param langevin  decay and size of the noise for each region
 * @param subset    0: all particles; 1: those that do not stay; 2: those that stay
 */
KERNEL void randomizeVelocities(GLOBAL mixed4* RESTRICT velm, GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT region, GLOBAL const mixed2* RESTRICT langevin,
        GLOBAL const int* RESTRICT stays, int subset, unsigned int draw0, unsigned int draw1, unsigned int key0, unsigned int key1) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
        mixed4 velocity = velm[i];
        int particle = atomIndex[i];
        mixed2 parameters = langevin[region[particle]];
        if (velocity.w == 0 || parameters.y == 0 || (subset == 1 && stays[particle] != 0) || (subset == 2 && stays[particle] == 0))
            continue;
        mixed4 noise = makeNoise(particle, draw0, draw1, key0, key1);
        mixed scale = parameters.y*sqrt(velocity.w);
        velm[i] = make_mixed4(parameters.x*velocity.x+scale*noise.x, parameters.x*velocity.y+scale*noise.y, parameters.x*velocity.z+scale*noise.z, velocity.w);
    }
}

KERNEL void scaleVelocities(GLOBAL mixed4* RESTRICT velm, GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT region, GLOBAL const mixed* RESTRICT factors) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
        mixed4 velocity = velm[i];
        mixed factor = factors[region[atomIndex[i]]];
        velm[i] = make_mixed4(factor*velocity.x, factor*velocity.y, factor*velocity.z, velocity.w);
    }
}

/** Sums of m v^2/2 for each region, one from each thread. */
KERNEL void sumKineticEnergies(GLOBAL const mixed4* RESTRICT velm, GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT region, int numRegions, GLOBAL mixed* RESTRICT sums) {
    for (int r = 0; r < numRegions; r++) {
        mixed sum = 0;
        for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
            mixed4 velocity = velm[i];
            if (velocity.w != 0 && (numRegions == 1 || region[atomIndex[i]] == r))
                sum += (velocity.x*velocity.x+velocity.y*velocity.y+velocity.z*velocity.z)/velocity.w;
        }
        sums[r*NUM_SUMS+GLOBAL_ID] = (mixed) 0.5*sum;
    }
}

/** Sums of F^2/m, one from each thread. */
KERNEL void sumAccelerations(GLOBAL const mixed4* RESTRICT velm, GLOBAL const int* RESTRICT atomIndex, GLOBAL const mm_long* RESTRICT slot, GLOBAL mixed* RESTRICT sums) {
    mixed sum = 0;
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
        int particle = atomIndex[i];
        mixed inverseMass = velm[i].w;
        for (int j = 0; j < 3; j++) {
            mixed force = toForce(slot[particle+j*PADDED_NUM_ATOMS]);
            sum += force*force*inverseMass;
        }
    }
    sums[GLOBAL_ID] = sum;
}

inline DEVICE bool isAbsurd(mixed4 v) {
    // A comparison that NaN fails, whatever the compiler thinks of isfinite().
    return !(v.x*v.x+v.y*v.y+v.z*v.z < (mixed) 1e30);
}

KERNEL void findNonFinite(GLOBAL const mixed4* RESTRICT velm, GLOBAL int* RESTRICT found, POSITION_ARGS) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE)
        if (isAbsurd(velm[i]) || isAbsurd(LOAD_POSITION(i)))
            found[0] = 1;
}

KERNEL void savePositions(GLOBAL mixed4* RESTRICT saved, POSITION_ARGS) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE)
        saved[i] = LOAD_POSITION(i);
}

/** The fourth component is the charge, which OpenMM may have set since. */
KERNEL void restorePositions(GLOBAL const mixed4* RESTRICT saved, POSITION_ARGS) {
    for (int i = GLOBAL_ID; i < NUM_ATOMS; i += GLOBAL_SIZE) {
        mixed4 position = LOAD_POSITION(i);
        position.x = saved[i].x;
        position.y = saved[i].y;
        position.z = saved[i].z;
        STORE_POSITION(i, position);
    }
}

// Lists of particles.

KERNEL void gatherVelocities(int numListed, GLOBAL const int* RESTRICT particles, GLOBAL const int* RESTRICT order, GLOBAL const mixed4* RESTRICT velm, GLOBAL mixed4* RESTRICT gathered) {
    for (int i = GLOBAL_ID; i < numListed; i += GLOBAL_SIZE)
        gathered[i] = velm[order[particles[i]]];
}

KERNEL void gatherForces(int numListed, GLOBAL const int* RESTRICT particles, GLOBAL const mm_long* RESTRICT slot, GLOBAL mm_long* RESTRICT gathered) {
    for (int i = GLOBAL_ID; i < 3*numListed; i += GLOBAL_SIZE)
        gathered[i] = slot[particles[i/3]+(i%3)*PADDED_NUM_ATOMS];
}

KERNEL void scatterForces(int numListed, GLOBAL const int* RESTRICT particles, GLOBAL mm_long* RESTRICT slot, GLOBAL const mm_long* RESTRICT gathered) {
    for (int i = GLOBAL_ID; i < 3*numListed; i += GLOBAL_SIZE)
        slot[particles[i/3]+(i%3)*PADDED_NUM_ATOMS] = gathered[i];
}

KERNEL void addPositions(int numListed, GLOBAL const int* RESTRICT particles, GLOBAL const int* RESTRICT order, GLOBAL const mixed4* RESTRICT delta, POSITION_ARGS) {
    for (int i = GLOBAL_ID; i < numListed; i += GLOBAL_SIZE) {
        int index = order[particles[i]];
        mixed4 position = LOAD_POSITION(index);
        position.x += delta[i].x;
        position.y += delta[i].y;
        position.z += delta[i].z;
        STORE_POSITION(index, position);
    }
}

KERNEL void addVelocities(int numListed, GLOBAL const int* RESTRICT particles, GLOBAL const int* RESTRICT order, GLOBAL const mixed4* RESTRICT delta, GLOBAL mixed4* RESTRICT velm) {
    for (int i = GLOBAL_ID; i < numListed; i += GLOBAL_SIZE) {
        int index = order[particles[i]];
        mixed4 velocity = velm[index];
        velm[index] = make_mixed4(velocity.x+delta[i].x, velocity.y+delta[i].y, velocity.z+delta[i].z, velocity.w);
    }
}
