#include "openmmkstep/internal/Mollification.h"
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

// Nearer to a straight line than this (rad), the plane of an angle is too ill-defined to rotate in.
static const double STRAIGHT = 0.02;

static string name(const Mollification::Angle& angle) {
    return "The mollified angle "+to_string(angle.particle1)+"-"+to_string(angle.particle2)+"-"+to_string(angle.particle3);
}

void Mollification::checkBonds(const vector<Bond>& list) const {
    map<int, int> parents;
    for (const Bond& bond : list) {
        if (!(bond.length > 0) || !isfinite(bond.length))
            throw OpenMMException("KStepIntegrator: the length of a mollified bond must be a positive number of nm.");
        if (bond.particle1 == bond.particle2 || !parents.insert({bond.particle2, bond.particle1}).second)
            throw OpenMMException("KStepIntegrator: particle "+to_string(bond.particle2)+" is the moving end (particle2) of two mollified bonds, or of one with itself.  Each particle moves with one bond; in a ring, leave one bond out.");
    }
    for (const Bond& bond : list) {
        int particle = bond.particle1;
        for (size_t i = 0; i < list.size() && parents.count(particle) > 0; i++)
            particle = parents[particle];
        if (parents.count(particle) > 0)
            throw OpenMMException("KStepIntegrator: the mollified bonds form a ring through particle "+to_string(particle)+".  Leave one bond of the ring out; a tree of bonds has one particle that is not the moving end (particle2) of any.");
    }
}

void Mollification::checkAngles(const vector<Bond>& bondList, const vector<Angle>& list) const {
    set<int> moving;
    for (const Angle& angle : list) {
        if (!(angle.angle > 10*STRAIGHT && angle.angle < M_PI-10*STRAIGHT))
            throw OpenMMException("KStepIntegrator: "+name(angle)+" must be between 0.2 rad and pi-0.2 rad, found "+to_string(angle.angle)+".  Leave out angles that are nearly straight, since the plane to rotate in is undefined there.");
        if (angle.particle1 == angle.particle2 || angle.particle1 == angle.particle3 || angle.particle2 == angle.particle3)
            throw OpenMMException("KStepIntegrator: "+name(angle)+" needs three different particles.");
        if (!moving.insert(angle.particle1).second)
            throw OpenMMException("KStepIntegrator: particle "+to_string(angle.particle1)+" is moved (particle1) by two mollified angles.  Give one angle for each hydrogen.");
    }
    for (const Angle& angle : list)
        for (int particle : {angle.particle2, angle.particle3})
            if (moving.count(particle) > 0)
                throw OpenMMException("KStepIntegrator: "+name(angle)+" depends on particle "+to_string(particle)+", which another mollified angle moves.  Give all hydrogens of one centre the same reference, and the reference no angle of its own.");
    for (const Bond& bond : bondList) {
        if (moving.count(bond.particle1) > 0)
            throw OpenMMException("KStepIntegrator: a mollified angle moves particle "+to_string(bond.particle1)+", which is not a terminal atom: the mollified bond to particle "+to_string(bond.particle2)+" starts there.  Only terminal atoms (hydrogens) can be rotated.");
        for (const Angle& angle : list)
            if (angle.particle1 == bond.particle2 && angle.particle2 != bond.particle1)
                throw OpenMMException("KStepIntegrator: "+name(angle)+" rotates particle "+to_string(angle.particle1)+" about particle "+to_string(angle.particle2)+", but its mollified bond is with particle "+to_string(bond.particle1)+".");
    }
}

Mollification::Mollification(const vector<Bond>& bondList, const vector<Angle>& angleList) {
    checkBonds(bondList);
    checkAngles(bondList, angleList);
    set<int> all;
    map<int, vector<int> > children;
    for (const Bond& bond : bondList) {
        all.insert({bond.particle1, bond.particle2});
        children[bond.particle1].push_back(bond.particle2);
    }
    for (const Angle& angle : angleList)
        all.insert({angle.particle1, angle.particle2, angle.particle3});
    particles.assign(all.begin(), all.end());
    auto indexOf = [&] (int particle) {
        return (int) (lower_bound(particles.begin(), particles.end(), particle)-particles.begin());
    };
    for (const Bond& bond : bondList) {
        vector<int> subtree = {bond.particle2};
        for (size_t i = 0; i < subtree.size(); i++) {
            const vector<int>& more = children[subtree[i]];
            subtree.insert(subtree.end(), more.begin(), more.end());
        }
        BondState state;
        state.fixed = indexOf(bond.particle1);
        state.moving = indexOf(bond.particle2);
        for (int particle : subtree)
            state.subtree.push_back(indexOf(particle));
        state.length = bond.length;
        bonds.push_back(state);
    }
    for (const Angle& angle : angleList) {
        AngleState state;
        state.moving = indexOf(angle.particle1);
        state.centre = indexOf(angle.particle2);
        state.other = indexOf(angle.particle3);
        state.cosine = cos(angle.angle);
        state.sine = sin(angle.angle);
        angles.push_back(state);
    }
}

void Mollification::checkSystem(const System& system) const {
    for (int particle : particles) {
        if (particle < 0 || particle >= system.getNumParticles())
            throw OpenMMException("KStepIntegrator: a mollified bond or angle has particle "+to_string(particle)+", but the System has "+to_string(system.getNumParticles())+" particles.");
        if (system.isVirtualSite(particle))
            throw OpenMMException("KStepIntegrator: particle "+to_string(particle)+" of a mollified bond or angle is a virtual site, whose position follows from other particles.  Leave it out.");
    }
}

void Mollification::apply(vector<Vec3>& x, const PeriodicBox& box) {
    for (BondState& bond : bonds) {
        Vec3 delta = box.getImage(x[bond.moving]-x[bond.fixed]);
        bond.distance = sqrt(delta.dot(delta));
        if (bond.distance < 1e-6)
            throw MollificationError("KStepIntegrator: the particles "+to_string(particles[bond.fixed])+" and "+to_string(particles[bond.moving])+" of a mollified bond are at the same place.");
        bond.direction = delta/bond.distance;
        Vec3 shift = bond.direction*(bond.length-bond.distance);
        for (int i : bond.subtree)
            x[i] += shift;
    }
    for (AngleState& a : angles) {
        Vec3 other = box.getImage(x[a.other]-x[a.centre]);
        a.arm = box.getImage(x[a.moving]-x[a.centre]);
        a.armLength = sqrt(a.arm.dot(a.arm));
        a.otherLength = sqrt(other.dot(other));
        a.axis = other/a.otherLength;
        a.normal = a.arm-a.axis*a.axis.dot(a.arm);
        a.height = sqrt(a.normal.dot(a.normal));
        if (a.otherLength < 1e-6 || a.height < STRAIGHT*a.armLength)
            throw MollificationError("KStepIntegrator: the particles "+to_string(particles[a.moving])+", "+to_string(particles[a.centre])+" and "+to_string(particles[a.other])+" of a mollified angle are in a straight line, so there is no plane to rotate in.  Leave this angle out of setMollifiedAngles(), or take another reference neighbour.");
        a.normal /= a.height;
        x[a.moving] += (a.axis*a.cosine+a.normal*a.sine)*a.armLength-a.arm;
    }
}

void Mollification::applyTransposedJacobian(vector<Vec3>& forces) const {
    // Reverse mode: the steps of apply() backwards, each passing the forces on its results to what they depend on.
    for (auto a = angles.rbegin(); a != angles.rend(); ++a) {
        // The result is c + r (cos e + sin n), with the arm d = x - c, r = |d|, the axis e towards the other particle,
        // and n the unit vector along p = d - (d.e) e.
        Vec3 g = forces[a->moving];
        Vec3 onP = (g-a->normal*a->normal.dot(g))*(a->armLength*a->sine/a->height);
        Vec3 onArm = a->arm*(g.dot(a->axis*a->cosine+a->normal*a->sine)/a->armLength)+onP-a->axis*a->axis.dot(onP);
        Vec3 onAxis = g*(a->armLength*a->cosine)-a->arm*a->axis.dot(onP)-onP*a->arm.dot(a->axis);
        Vec3 onOther = (onAxis-a->axis*a->axis.dot(onAxis))/a->otherLength;
        forces[a->moving] = onArm;
        forces[a->other] += onOther;
        forces[a->centre] += g-onArm-onOther;
    }
    for (auto bond = bonds.rbegin(); bond != bonds.rend(); ++bond) {
        // The shift is (r0-R) u; its derivative with respect to the bond vector is (r0/R)(1-u u^T)-1, symmetric.
        Vec3 total;
        for (int i : bond->subtree)
            total += forces[i];
        Vec3 onDelta = (total-bond->direction*bond->direction.dot(total))*(bond->length/bond->distance)-total;
        forces[bond->moving] += onDelta;
        forces[bond->fixed] -= onDelta;
    }
}
