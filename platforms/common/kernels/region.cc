// The device's side of QMRegionForce.

/**
 * Append the particles of all groups that may be in reach of a QM atom to what was gathered: no group that is in reach is
 * missing, since the reach has a margin for the rounding of single precision.
 *
 * @param numQM      the QM atoms come first in gathered
 * @param numFixed   particles that are gathered anyway
 * @param centers    the particle that is the center of each group; -1 for the mean position
 * @param first      of each group in members, and the end
 * @param count      of particles that were appended, or had been if there were room
 */
KERNEL void gatherGroups(int numQM, int numFixed, int numGroups, int capacity, real reach2, GLOBAL const int* RESTRICT centers, GLOBAL const int* RESTRICT first,
        GLOBAL const int* RESTRICT members, GLOBAL const int* RESTRICT order, GLOBAL mm_ulong* RESTRICT count, GLOBAL mixed4* RESTRICT gathered,
        real4 periodicBoxSize, real4 invPeriodicBoxSize, real4 periodicBoxVecX, real4 periodicBoxVecY, real4 periodicBoxVecZ, POSITION_ARGS) {
    for (int group = GLOBAL_ID; group < numGroups; group += GLOBAL_SIZE) {
        int numMembers = first[group+1]-first[group];
        mixed4 center;
        if (centers[group] != -1)
            center = LOAD_POSITION(order[centers[group]]);
        else {
            mixed4 x = LOAD_POSITION(order[members[first[group]]]);
            center = make_mixed4(0, 0, 0, 0);
            for (int i = first[group]; i < first[group+1]; i++) {
                mixed4 position = LOAD_POSITION(order[members[i]]);
                real3 delta = make_real3((real) (position.x-x.x), (real) (position.y-x.y), (real) (position.z-x.z));
                APPLY_BOX(delta)
                x = make_mixed4(x.x+delta.x, x.y+delta.y, x.z+delta.z, 0);
                center += x;
            }
            center = make_mixed4(center.x/numMembers, center.y/numMembers, center.z/numMembers, 0);
        }
        bool isInReach = false;
        for (int i = 0; i < numQM && !isInReach; i++) {
            mixed4 position = gathered[i];
            real3 delta = make_real3((real) (position.x-center.x), (real) (position.y-center.y), (real) (position.z-center.z));
            APPLY_BOX(delta)
            isInReach = (delta.x*delta.x+delta.y*delta.y+delta.z*delta.z < reach2);
        }
        if (isInReach) {
            int place = numFixed+(int) ATOMIC_ADD(count, (mm_ulong) numMembers);
            for (int i = 0; i < numMembers && place+i < capacity; i++) {
                int particle = members[first[group]+i];
                mixed4 position = LOAD_POSITION(order[particle]);
                gathered[place+i] = make_mixed4(position.x, position.y, position.z, particle);
            }
        }
    }
}

/**
 * Add the forces on listed particles: three integers in OpenMM's units and the particle.
 */
KERNEL void addListedForces(int numListed, GLOBAL const mm_long* RESTRICT listed, GLOBAL const int* RESTRICT order, GLOBAL mm_ulong* RESTRICT forces) {
    for (int i = GLOBAL_ID; i < numListed; i += GLOBAL_SIZE) {
        int atom = order[(int) listed[4*i+3]];
        // Other queues may be adding theirs at the same time.
        for (int j = 0; j < 3; j++)
            ATOMIC_ADD(&forces[atom+j*PADDED_NUM_ATOMS], (mm_ulong) listed[4*i+j]);
    }
}
