#include "openmmkstep/internal/Embedding.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <string>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// What an Embedding reads from its force, and what it refuses.

static void checkParticle(const string& what, int particle, const System& system) {
    if (particle < 0 || particle >= system.getNumParticles())
        throw OpenMMException(what+" particle "+to_string(particle)+", but the System has "+to_string(system.getNumParticles())+" particles.");
}

static int indexOf(int value, const vector<int>& list) {
    auto found = find(list.begin(), list.end(), value);
    return (found == list.end() ? -1 : (int) (found-list.begin()));
}

Embedding::Embedding(const QMRegionForce& force, const System& system) : isPeriodic(force.usesPeriodicBoundaryConditions()), hasFixedCharges(false),
        hasPositions(false), qmParticles(force.getParticles()), groups(force, system), boxMargin(numeric_limits<double>::infinity()), firstSwitched(0) {
    for (int particle : qmParticles)
        checkParticle("The QM region contains", particle, system);
    readLinkAtoms(force, system);
    readCharges(force, system);
    readVirtualCharges(force, system);
    readExceptions(force);
    qmForces.resize(qmParticles.size()+linkAtoms.size());
    placeOfCharge.assign(chargeParticles.size(), -1);
    isListed.assign(system.getNumParticles(), 0);
    updateCharges(force);
}

void Embedding::readLinkAtoms(const QMRegionForce& force, const System& system) {
    set<int> hosts;
    for (int i = 0; i < force.getNumLinkAtoms(); i++) {
        int qmParticle, mmParticle;
        double distance;
        force.getLinkAtomParameters(i, qmParticle, mmParticle, distance);
        string name = "Link atom "+to_string(i);
        int qm = indexOf(qmParticle, qmParticles);
        if (qm == -1)
            throw OpenMMException(name+" is on particle "+to_string(qmParticle)+", which is not in the QM region.");
        checkParticle(name+" points to", mmParticle, system);
        if (indexOf(mmParticle, qmParticles) != -1)
            throw OpenMMException(name+" points to particle "+to_string(mmParticle)+", which is in the QM region too; a link atom replaces the MM end of a bond.");
        if (!hosts.insert(mmParticle).second)
            throw OpenMMException("Two link atoms point to particle "+to_string(mmParticle)+" and would come too close to each other.  Take this particle into the QM region.");
        linkAtoms.push_back({qm, mmParticle, distance});
    }
}

void Embedding::readCharges(const QMRegionForce& force, const System& system) {
    set<int> qm(qmParticles.begin(), qmParticles.end()), seen;
    chargesOfGroup.resize(groups.getNumGroups());
    for (int i = 0; i < force.getNumEmbeddingCharges(); i++) {
        int particle, atomicNumber;
        double charge;
        force.getEmbeddingChargeParameters(i, particle, charge, atomicNumber);
        string name = "Embedding charge "+to_string(i);
        checkParticle(name+" is on", particle, system);
        if (qm.count(particle) > 0)
            throw OpenMMException(name+" is on particle "+to_string(particle)+", which belongs to the QM region.  Only particles outside it can embed it.");
        if (!seen.insert(particle).second)
            throw OpenMMException(name+" is on particle "+to_string(particle)+", which has an embedding charge already.");
        chargeParticles.push_back(particle);
        chargeNumbers.push_back(atomicNumber);
        int group = groups.getGroup(particle);
        if (group != -1)
            chargesOfGroup[group].push_back({i, indexOf(particle, groups.getParticles(group))});
        else if (isPeriodic)
            throw OpenMMException(name+" (particle "+to_string(particle)+") is in no embedding group.  With periodic boundary conditions each charge must be in one, so that whole molecules are seen in one image; see addEmbeddingGroup().");
        else
            ungrouped.push_back(i);
    }
}

void Embedding::readVirtualCharges(const QMRegionForce& force, const System& system) {
    vector<int> unswitched;
    for (int i = 0; i < groups.getNumGroups(); i++)
        if (!groups.isSwitched(i))
            unswitched.push_back(i);
    located.resize(unswitched.size()+1);
    for (int i = 0; i < force.getNumVirtualCharges(); i++) {
        VirtualCharge v;
        force.getVirtualChargeParameters(i, v.particles, v.weights, v.charge, v.atomicNumber);
        for (int particle : v.particles) {
            string name = "Virtual charge "+to_string(i);
            checkParticle(name+" depends on", particle, system);
            v.qm.push_back(indexOf(particle, qmParticles));
            int group = groups.getGroup(particle);
            if (v.qm.back() == -1 && (group == -1 ? isPeriodic : groups.isSwitched(group)))
                throw OpenMMException(name+" depends on particle "+to_string(particle)+", which is "+(group == -1 ? "in no embedding group" : "in a group that is switched")+".  Virtual charges are always seen: put their particles into groups that are not switched.");
            v.image.push_back(indexOf(group, unswitched));
            v.place.push_back(group == -1 ? -1 : indexOf(particle, groups.getParticles(group)));
        }
        virtualCharges.push_back(v);
    }
}

void Embedding::readExceptions(const QMRegionForce& force) {
    set<pair<int, int> > pairs;
    map<int, int> chargeOf;
    for (size_t i = 0; i < chargeParticles.size(); i++)
        chargeOf[chargeParticles[i]] = i;
    for (int i = 0; i < force.getNumExceptions(); i++) {
        int qmParticle, mmParticle;
        double product;
        force.getExceptionParameters(i, qmParticle, mmParticle, product);
        string name = "Exception "+to_string(i)+" of the embedding";
        int qm = indexOf(qmParticle, qmParticles);
        if (qm == -1)
            throw OpenMMException(name+" names particle "+to_string(qmParticle)+", which is not in the QM region.");
        if (chargeOf.count(mmParticle) == 0)
            throw OpenMMException(name+" names particle "+to_string(mmParticle)+", which has no embedding charge.");
        if (!pairs.insert({qmParticle, mmParticle}).second)
            throw OpenMMException(name+" repeats the pair of particles "+to_string(qmParticle)+" and "+to_string(mmParticle)+".");
        exceptions.push_back({qm, chargeOf[mmParticle], product});
    }
}

void Embedding::updateCharges(const QMRegionForce& force) {
    const string hint = "; reinitialize the Context instead.";
    if (force.getNumEmbeddingCharges() != (int) chargeParticles.size() || force.getNumVirtualCharges() != (int) virtualCharges.size() || force.getNumExceptions() != (int) exceptions.size())
        throw OpenMMException("updateParametersInContext: the number of embedding charges, virtual charges or exceptions has changed"+hint);
    charges.resize(chargeParticles.size());
    for (size_t i = 0; i < charges.size(); i++) {
        int particle, atomicNumber;
        force.getEmbeddingChargeParameters(i, particle, charges[i], atomicNumber);
        if (particle != chargeParticles[i] || atomicNumber != chargeNumbers[i])
            throw OpenMMException("updateParametersInContext: the particle or hardness element of embedding charge "+to_string(i)+" has changed"+hint);
    }
    for (size_t i = 0; i < virtualCharges.size(); i++) {
        vector<int> particles;
        vector<double> weights;
        int atomicNumber;
        force.getVirtualChargeParameters(i, particles, weights, virtualCharges[i].charge, atomicNumber);
    }
    for (size_t i = 0; i < exceptions.size(); i++) {
        int qmParticle, mmParticle;
        force.getExceptionParameters(i, qmParticle, mmParticle, exceptions[i].product);
        if (qmParticle != qmParticles[exceptions[i].qm] || mmParticle != chargeParticles[exceptions[i].charge])
            throw OpenMMException("updateParametersInContext: the particles of exception "+to_string(i)+" have changed"+hint);
    }
    fixedCharges.resize(qmParticles.size());
    hasFixedCharges = false;
    for (size_t i = 0; i < qmParticles.size(); i++) {
        fixedCharges[i] = force.getFixedCharge(i);
        hasFixedCharges |= (fixedCharges[i] != 0);
    }
    hasPositions = false; // the next ones are new
}
