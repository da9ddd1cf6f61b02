#include "SpringsInField.h"
#include <algorithm>
#include <set>

using namespace KStepTests;
using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * That it does not matter to an Embedding whether it looks at all groups or at those in reach, and that the forces it
 * hands over are complete and nothing but its own.
 */

static ParticleForces createList(int numParticles) {
    ParticleForces list;
    list.forces.resize(numParticles);
    return list;
}

static vector<int> findGroupsInReach(const QMRegionForce& force, const vector<Vec3>& x, double margin) {
    vector<int> inReach;
    for (int i = 0; i < force.getNumEmbeddingGroups(); i++) {
        vector<int> particles;
        int center;
        bool switched, isNear = false;
        force.getEmbeddingGroupParameters(i, particles, center, switched);
        for (int qm : force.getParticles())
            for (int particle : particles) {
                Vec3 delta = EmbeddedChain::getBox().getImage(x[particle]-x[qm]);
                isNear |= (sqrt(delta.dot(delta)) < EmbeddedChain::CUTOFF+margin);
            }
        if (switched && isNear)
            inReach.push_back(i);
    }
    return inReach;
}

/** The positions, but those of switched groups that are not named say that they are next to the QM region. */
static vector<Vec3> spoilOthers(const QMRegionForce& force, vector<Vec3> x, const vector<int>& groups) {
    const Vec3 wrong = x[force.getParticles()[0]]+Vec3(0, 0.3, 0);
    for (int i = 0; i < force.getNumEmbeddingGroups(); i++) {
        vector<int> particles;
        int center;
        bool switched;
        force.getEmbeddingGroupParameters(i, particles, center, switched);
        if (switched && find(groups.begin(), groups.end(), i) == groups.end())
            for (int particle : particles)
                x[particle] = wrong;
    }
    return x;
}

/** Energy and forces; checks the list's form on the way. */
static double compute(Embedding& embedding, ParticleForces& list) {
    embedding.clearForces();
    double energy = SpringsInField::compute(embedding);
    embedding.scatterForces(list);
    set<int> named(list.particles.begin(), list.particles.end());
    ASSERT_EQUAL(list.particles.size(), named.size());
    for (size_t i = 0; i < list.forces.size(); i++)
        ASSERT(named.count(i) > 0 || list.forces[i] == Vec3());
    return energy;
}

void testGroupsInReach() {
    EmbeddedChain chain;
    const QMRegionForce& force = chain.getForce();
    int numParticles = chain.positions.size();
    Embedding all(force, chain.system), some(force, chain.system);
    ParticleForces ofAll = createList(numParticles), ofSome = createList(numParticles);
    vector<Vec3> x = chain.positions;
    mt19937 random(1);
    set<int> numbersSeen;
    bool hasPartlySeen = false;
    for (int step = 0; step < 50; step++) {
        vector<int> inReach = findGroupsInReach(force, x, step%3*0.1);
        ASSERT(inReach.size() > 10 && (int) inReach.size() < force.getNumEmbeddingGroups()/2);
        ASSERT(all.setPositions(x, EmbeddedChain::getBox()));
        vector<Vec3> spoiled = spoilOthers(force, x, inReach);
        ASSERT(some.setPositions(spoiled, EmbeddedChain::getBox(), &inReach));
        ASSERT(!some.setPositions(x, EmbeddedChain::getBox())); // nothing that matters is new
        ASSERT(!some.setPositions(spoiled, EmbeddedChain::getBox(), &inReach));
        ASSERT_VECS(all.getMMPositions(), some.getMMPositions(), 0);
        ASSERT(all.getMMCharges() == some.getMMCharges());
        ASSERT_EQUAL(all.getFirstSwitchedCharge(), some.getFirstSwitchedCharge());
        double energy = compute(all, ofAll);
        ASSERT(isfinite(energy));
        ASSERT(energy == compute(some, ofSome));
        ASSERT(ofAll.particles == ofSome.particles);
        ASSERT_VECS(ofAll.forces, ofSome.forces, 0);
        numbersSeen.insert(all.getMMPositions().size());
        hasPartlySeen |= (all.getFirstSwitchedCharge() < (int) all.getMMPositions().size());
        EmbeddedChain::move(x, 0.05, random);
    }
    // The comparison is of something: groups came and went, and were seen in part.
    ASSERT(numbersSeen.size() > 5 && hasPartlySeen);
}

/** A list that has been used before ends up as a new one does, also where a list has skipped positions. */
void testNothingStale() {
    EmbeddedChain chain;
    int numParticles = chain.positions.size();
    Embedding embedding(chain.getForce(), chain.system);
    ParticleForces used[2] = {createList(numParticles), createList(numParticles)};
    vector<Vec3> x = chain.positions;
    mt19937 random(2);
    for (int step = 0; step < 30; step++) {
        embedding.setPositions(x, EmbeddedChain::getBox());
        ParticleForces fresh = createList(numParticles);
        compute(embedding, fresh);
        embedding.scatterForces(used[step%2]);
        ASSERT_VECS(fresh.forces, used[step%2].forces, 0);
        ASSERT(fresh.particles == used[step%2].particles);
        EmbeddedChain::move(x, 0.05, random);
    }
    used[0].clear();
    ASSERT(used[0].particles.empty());
    ASSERT_VECS(vector<Vec3>(numParticles), used[0].forces, 0);
}

/** By finite differences, which know no list: link host, particles of the virtual charge and groups included. */
void testForcesAreMinusTheGradient() {
    EmbeddedChain chain;
    int numParticles = chain.positions.size();
    Embedding embedding(chain.getForce(), chain.system);
    ParticleForces list = createList(numParticles), unused = list;
    embedding.setPositions(chain.positions, EmbeddedChain::getBox());
    compute(embedding, list);
    const double h = 1e-5;
    int numFelt = 0;
    for (int i = 0; i < numParticles; i++) {
        Vec3 gradient;
        for (int k = 0; k < 3; k++)
            for (int sign : {1, -1}) {
                vector<Vec3> x = chain.positions;
                x[i][k] += sign*h;
                embedding.setPositions(x, EmbeddedChain::getBox());
                gradient[k] += sign*compute(embedding, unused)/(2*h);
            }
        ASSERT_VEC(-gradient, list.forces[i], 1e-4);
        numFelt += (list.forces[i] != Vec3());
    }
    ASSERT(numFelt > 50 && numFelt < numParticles/2);
}

int main() {
    try {
        testGroupsInReach();
        testNothingStale();
        testForcesAreMinusTheGradient();
    }
    catch (const exception& e) {
        cout << "exception: " << e.what() << endl;
        return 1;
    }
    cout << "Done" << endl;
    return 0;
}
