#include "openmmkstep/internal/EmbeddingGroups.h"
#include "openmm/OpenMMException.h"
#include <cmath>
#include <set>
#include <string>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

EmbeddingGroups::EmbeddingGroups(const QMRegionForce& force, const System& system) : groupOf(system.getNumParticles(), -1),
        switchingDistance(force.getSwitchingDistance()), cutoff(force.getCutoffDistance()) {
    set<int> qm(force.getParticles().begin(), force.getParticles().end());
    for (int i = 0; i < force.getNumEmbeddingGroups(); i++) {
        Group group;
        force.getEmbeddingGroupParameters(i, group.particles, group.center, group.switched);
        for (int particle : group.particles) {
            if (particle < 0 || particle >= system.getNumParticles())
                throw OpenMMException("Embedding group "+to_string(i)+" contains particle "+to_string(particle)+", but the System has "+to_string(system.getNumParticles())+" particles.");
            if (qm.count(particle) > 0)
                throw OpenMMException("Embedding group "+to_string(i)+" contains particle "+to_string(particle)+", which belongs to the QM region.");
            if (groupOf[particle] != -1)
                throw OpenMMException("Particle "+to_string(particle)+" is in the embedding groups "+to_string(groupOf[particle])+" and "+to_string(i)+".  Each particle can be in one group only.");
            groupOf[particle] = i;
        }
        (group.switched ? switchedGroups : alwaysSeen).push_back(i);
        if (group.switched)
            switchedCenters.push_back(group.center);
        groups.push_back(group);
    }
    if (cutoff == 0 && !switchedGroups.empty())
        throw OpenMMException("Embedding group "+to_string(switchedGroups[0])+" is switched, but there is no cutoff.  Call setCutoffDistance() and setSwitchingDistance(), or add groups with switched=false.");
    if (cutoff > 0 && switchingDistance >= cutoff)
        throw OpenMMException("The switching distance must be smaller than the cutoff distance of the embedding, found "+to_string(switchingDistance)+" and "+to_string(cutoff)+" nm.");
}

void EmbeddingGroups::findImage(int index, const vector<Vec3>& positions, const PeriodicBox& box, const Vec3& centroid, Image& image) const {
    const Group& group = groups[index];
    Vec3 center;
    if (group.center == -1) {
        Vec3 sum, x = positions[group.particles[0]];
        for (int particle : group.particles) {
            x += box.getImage(positions[particle]-x);
            sum += x;
        }
        center = sum/group.particles.size();
    }
    else
        center = positions[group.center];
    image.group = index;
    image.center = centroid+box.getImage(center-centroid);
    image.factor = 1;
}

void EmbeddingGroups::locateParticles(const Image& image, const vector<Vec3>& positions, const PeriodicBox& box, vector<Vec3>& located) const {
    const Group& group = groups[image.group];
    int n = group.particles.size();
    located.resize(n);
    Vec3 x = positions[group.particles[0]], center;
    for (int i = 0; i < n; i++) {
        x += box.getImage(positions[group.particles[i]]-x);
        located[i] = x;
        if (group.center == -1)
            center += x;
        else if (group.particles[i] == group.center)
            center = x;
    }
    if (group.center == -1)
        center /= n;
    for (Vec3& position : located)
        position += image.center-center;
}

/** 1 - S(R), between 0 below the switching distance and 1 beyond the cutoff, and its derivative. */
static double computeComplement(double r, double on, double off, double& derivative) {
    double t = (r-on)/(off-on);
    if (t <= 0 || t >= 1) {
        derivative = 0;
        return (t <= 0 ? 0.0 : 1.0);
    }
    derivative = 30*t*t*(1-t)*(1-t)/(off-on);
    return t*t*t*(10-15*t+6*t*t);
}

double EmbeddingGroups::computeFactor(const Vec3& center, const vector<Vec3>& qmPositions) const {
    double product = 1, off2 = cutoff*cutoff;
    for (const Vec3& position : qmPositions) {
        Vec3 delta = position-center;
        double r2 = delta.dot(delta);
        if (r2 >= off2)
            continue;
        double derivative;
        product *= computeComplement(sqrt(r2), switchingDistance, cutoff, derivative);
        if (product == 0)
            break;
    }
    return 1-product;
}

int EmbeddingGroups::select(const vector<Vec3>& positions, const PeriodicBox& box, const vector<Vec3>& qmPositions,
                            const Vec3& centroid, double radius, const vector<int>* inReach, vector<Image>& images) {
    images.clear();
    partlySeen.clear();
    Image image;
    for (int index : alwaysSeen) {
        findImage(index, positions, box, centroid, image);
        images.push_back(image);
    }
    double reach2 = (cutoff+radius)*(cutoff+radius);
    auto look = [&](int index, int centerParticle) {
        // Most groups are too far away; one position is all that has to be looked at.
        if (centerParticle != -1) {
            Vec3 delta = box.getImage(positions[centerParticle]-centroid);
            if (!(delta.dot(delta) < reach2))
                return;
        }
        findImage(index, positions, box, centroid, image);
        Vec3 delta = image.center-centroid;
        if (!(delta.dot(delta) < reach2))
            return;
        image.factor = computeFactor(image.center, qmPositions);
        if (image.factor > 0)
            (image.factor == 1 ? images : partlySeen).push_back(image);
    };
    if (inReach == NULL)
        for (size_t i = 0; i < switchedGroups.size(); i++)
            look(switchedGroups[i], switchedCenters[i]);
    else
        for (int index : *inReach)
            look(index, groups[index].center);
    int numWhole = images.size();
    images.insert(images.end(), partlySeen.begin(), partlySeen.end());
    return numWhole;
}

void EmbeddingGroups::addSwitchingForces(const Image& image, double derivative, const vector<Vec3>& qmPositions,
                                         vector<Vec3>& qmForces, vector<Vec3>& forces) const {
    // dS/dR_a = -(1-S(R_a))' prod_{b != a} (1-S(R_b)).  No factor is 0 where S_g < 1, but some are tiny.
    int n = qmPositions.size();
    vector<double> complement(n), slope(n), after(n+1, 1.0);
    for (int a = 0; a < n; a++) {
        Vec3 delta = qmPositions[a]-image.center;
        complement[a] = computeComplement(sqrt(delta.dot(delta)), switchingDistance, cutoff, slope[a]);
    }
    for (int a = n-1; a >= 0; a--)
        after[a] = after[a+1]*complement[a];
    Vec3 onCenter;
    double before = 1;
    for (int a = 0; a < n; a++) {
        if (slope[a] != 0) {
            Vec3 delta = qmPositions[a]-image.center;
            Vec3 f = delta*(derivative*slope[a]*before*after[a+1]/sqrt(delta.dot(delta)));
            qmForces[a] += f;
            onCenter -= f;
        }
        before *= complement[a];
    }
    const Group& group = groups[image.group];
    if (group.center != -1)
        forces[group.center] += onCenter;
    else
        for (int particle : group.particles)
            forces[particle] += onCenter/group.particles.size();
}
