#include "openmmkstep/KStepIntegrator.h"
#include "openmmkstep/KStepKernels.h"
#include "openmmkstep/internal/UnitConstants.h"
#include "openmm/CMMotionRemover.h"
#include "openmm/OpenMMException.h"
#include "openmm/System.h"
#include "openmm/internal/ContextImpl.h"
#include <algorithm>
#include <cmath>

// Temperature coupling, for the whole system or by region.

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

static void checkThermostat(const string& name) {
    if (name != "langevin" && name != "bussi")
        throw OpenMMException("KStepIntegrator: expected the thermostat 'langevin' or 'bussi', found '"+name+"'.");
}

void KStepIntegrator::setThermostat(const string& name) {
    checkThermostat(name);
    thermostat = name;
    areThermostatsCurrent = false;
}

int KStepIntegrator::setRegion(const vector<int>& particles, double temperature, double friction, const string& thermostat) {
    checkThermostat(thermostat);
    if (!(temperature >= 0) || !isfinite(temperature))
        throw OpenMMException("KStepIntegrator: the temperature of a region must be a number of K that is not negative.");
    if (!(friction >= 0) || !isfinite(friction))
        throw OpenMMException("KStepIntegrator: the friction of a region must be a number of 1/ps that is not negative.");
    vector<int> sorted = particles;
    sort(sorted.begin(), sorted.end());
    if (sorted.empty() || sorted[0] < 0 || adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
        throw OpenMMException("KStepIntegrator: a region needs particles, each given once, with indices that are not negative.");
    Region region = {sorted, temperature, friction, thermostat};
    areThermostatsCurrent = false;
    for (size_t i = 0; i < regions.size(); i++) {
        if (regions[i].particles == sorted) {
            regions[i] = region;
            return i;
        }
        for (int particle : sorted)
            if (binary_search(regions[i].particles.begin(), regions[i].particles.end(), particle))
                throw OpenMMException("KStepIntegrator: particle "+to_string(particle)+" is in another region already; regions must not overlap.");
    }
    if (context != NULL)
        throw OpenMMException("KStepIntegrator: regions cannot be added while the integrator is used by a Context; add them before it is created.");
    regions.push_back(region);
    return regions.size()-1;
}

const KStepIntegrator::Region& KStepIntegrator::getRegion(int index) const {
    if (index < 0 || index >= (int) regions.size())
        throw OpenMMException("KStepIntegrator: there is no region "+to_string(index)+"; the integrator has "+to_string(regions.size())+".");
    return regions[index];
}

bool KStepIntegrator::hasLangevin() const {
    bool found = (friction > 0 && thermostat == "langevin");
    for (const Region& region : regions)
        found |= (region.friction > 0 && region.thermostat == "langevin");
    return found;
}

bool KStepIntegrator::hasThermostat() const {
    bool found = (friction > 0);
    for (const Region& region : regions)
        found |= (region.friction > 0);
    return found;
}

void KStepIntegrator::checkRegions() const {
    if (friction > 0 && temperature == 0)
        throw OpenMMException("KStepIntegrator: with friction a positive temperature is required.");
    for (const Region& region : regions) {
        if (region.friction > 0 && region.temperature == 0)
            throw OpenMMException("KStepIntegrator: a region with friction needs a positive temperature.");
        if ((scheme == "metropolis" || scheme == "reweight") && region.friction > 0 && region.temperature != temperature)
            throw OpenMMException("KStepIntegrator: the scheme '"+scheme+"' samples exp(-H/kT) with one temperature ("+to_string(temperature)+" K), so that its test is exact; found a region at "+to_string(region.temperature)+" K.  Use one temperature, or 'impulse' for regions of different temperature.");
    }
}

/**
 * The degrees of freedom of each region: 3 for every particle with mass, less one for each constraint (half of it for
 * either end) and, where the motion of the centre of mass is removed, three shared by mass.
 */
void KStepIntegrator::initializeRegions(const System& system) {
    int numParticles = system.getNumParticles();
    vector<int> index(numParticles, 0);
    for (size_t i = 0; i < regions.size(); i++)
        for (int particle : regions[i].particles) {
            if (particle >= numParticles)
                throw OpenMMException("KStepIntegrator: a region contains particle "+to_string(particle)+", but the System has "+to_string(numParticles)+" particles.");
            index[particle] = i+1;
        }
    degreesOfFreedom.assign(regions.size()+1, 0.0);
    vector<double> masses(regions.size()+1, 0.0);
    double totalMass = 0;
    for (int i = 0; i < numParticles; i++)
        if (system.getParticleMass(i) > 0) {
            degreesOfFreedom[index[i]] += 3;
            masses[index[i]] += system.getParticleMass(i);
            totalMass += system.getParticleMass(i);
        }
    auto isBussi = [&] (int i) {
        return (i == 0 ? thermostat : regions[i-1].thermostat) == "bussi";
    };
    for (int i = 0; i < system.getNumConstraints(); i++) {
        int particle1, particle2;
        double distance;
        system.getConstraintParameters(i, particle1, particle2, distance);
        if (system.getParticleMass(particle1) == 0 && system.getParticleMass(particle2) == 0)
            continue; // frozen anyway
        int region1 = index[particle1], region2 = index[particle2];
        if (region1 != region2 && (isBussi(region1) || isBussi(region2)))
            throw OpenMMException("KStepIntegrator: the constraint between the particles "+to_string(particle1)+" and "+to_string(particle2)+" crosses the border of a region with the thermostat 'bussi', whose velocities are scaled.  Put both into one region.");
        degreesOfFreedom[region1] -= 0.5;
        degreesOfFreedom[region2] -= 0.5;
    }
    for (int i = 0; i < system.getNumForces(); i++)
        if (dynamic_cast<const CMMotionRemover*>(&system.getForce(i)) != NULL) {
            for (size_t j = 0; j < masses.size(); j++)
                degreesOfFreedom[j] -= 3*masses[j]/totalMass;
            break;
        }
}

void KStepIntegrator::updateThermostats() {
    if (areThermostatsCurrent)
        return;
    vector<double> frictions = {thermostat == "langevin" ? friction : 0.0}, temperatures = {temperature};
    for (const Region& region : regions) {
        frictions.push_back(region.thermostat == "langevin" ? region.friction : 0.0);
        temperatures.push_back(region.temperature);
    }
    getKernel().setLangevin(frictions, temperatures);
    areThermostatsCurrent = true;
}

/**
 * Stochastic velocity rescaling over one macro-step (Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007)).
 */
void KStepIntegrator::applyBussi() {
    bool any = (thermostat == "bussi" && friction > 0);
    for (const Region& region : regions)
        any |= (region.thermostat == "bussi" && region.friction > 0);
    if (!any)
        return;
    vector<double> energies, factors;
    getKernel().computeRegionKineticEnergies(*context, energies);
    for (size_t i = 0; i < energies.size(); i++) {
        bool isBussi = (i == 0 ? thermostat : regions[i-1].thermostat) == "bussi";
        double rate = (i == 0 ? friction : regions[i-1].friction);
        factors.push_back(isBussi && rate > 0 && energies[i] > 0 && degreesOfFreedom[i] > 0 ?
                drawKineticEnergyScale(energies[i], degreesOfFreedom[i], i == 0 ? temperature : regions[i-1].temperature, exp(-rate*getStepSize())) : 1.0);
    }
    getKernel().scaleVelocities(*context, factors);
}

double KStepIntegrator::drawKineticEnergyScale(double kineticEnergy, double degreesOfFreedom, double temperature, double decay) {
    // Distributions are made anew for each draw: one that keeps a number would be a state outside of checkpoints.
    double first = normal_distribution<double>()(random), others = 0;
    if (degreesOfFreedom > 1)
        others = 2*gamma_distribution<double>(0.5*(degreesOfFreedom-1))(random);
    double ratio = (1-decay)*0.5*GAS_CONSTANT*temperature/kineticEnergy;
    double scale2 = decay+ratio*(first*first+others)+2*first*sqrt(decay*ratio);
    // The square root's sign, which matters for a few degrees of freedom only (Bussi, Parrinello, Comput. Phys. Commun.
    // 179, 26 (2008)).
    return (first+sqrt(decay/ratio) < 0 ? -1 : 1)*sqrt(max(0.0, scale2));
}
