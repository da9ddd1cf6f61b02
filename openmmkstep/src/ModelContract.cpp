#include "openmmkstep/internal/ModelContract.h"
#include "openmmkstep/XtbForce.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationNode.h"
#include "openmm/serialization/SerializationProxy.h"
#include "openmm/serialization/XmlSerializer.h"
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <sstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

namespace {

void checkUnit(const SerializationNode& units, const string& quantity, const string& expected) {
    const string& found = units.getStringProperty(quantity);
    if (found != expected)
        throw OpenMMException("the unit of "+quantity+" must be "+expected+", found '"+found+"'");
}

bool contains(const SerializationNode& list, const string& name) {
    for (const SerializationNode& item : list.getChildren())
        if (item.getStringProperty("name") == name)
            return true;
    return false;
}

/** Lets XmlSerializer read a contract; writing is done in Python. */
class ModelContractProxy : public SerializationProxy {
public:
    ModelContractProxy() : SerializationProxy("KStepModelContract") {
    }
    void serialize(const void* object, SerializationNode& node) const override {
        throw OpenMMException("Model contracts are written by openmmkstep.saveModel() in Python.");
    }
    void* deserialize(const SerializationNode& node) const override {
        if (node.getIntProperty("version") != 1)
            throw OpenMMException("expected version 1, found "+to_string(node.getIntProperty("version"))+"; a newer openmmkstep may read it");
        unique_ptr<ModelContract> contract(new ModelContract());
        contract->kind = node.getStringProperty("kind");
        if (contract->kind != "potential" && contract->kind != "jump")
            throw OpenMMException("expected the kind 'potential' or 'jump', found '"+contract->kind+"'");
        const SerializationNode& units = node.getChildNode("Units");
        checkUnit(units, "length", "nm");
        checkUnit(units, "energy", "kJ/mol");
        checkUnit(units, "charge", "e");
        checkUnit(units, "time", "ps");
        contract->hasPotentialInput = contains(node.getChildNode("Inputs"), "phi");
        contract->outputsForces = contains(node.getChildNode("Outputs"), "forces");
        if (contract->hasPotentialInput && contract->outputsForces && !contains(node.getChildNode("Outputs"), "charges"))
            throw OpenMMException("a model with phi input that returns forces must return charges (dE/dphi) too");
        for (const SerializationNode& atom : node.getChildNode("Atoms").getChildren()) {
            int number = atom.getIntProperty("number");
            if (number < 1 || number > 86)
                throw OpenMMException("atomic numbers must be from 1 to 86, found '"+atom.getStringProperty("number")+"'");
            contract->species.push_back(number);
            if (contract->hasPotentialInput)
                contract->dampingLengths.push_back(atom.getDoubleProperty("dampingLength"));
        }
        const SerializationNode& theory = node.getChildNode("LevelOfTheory");
        contract->charge = theory.getIntProperty("charge");
        contract->multiplicity = theory.getIntProperty("multiplicity");
        contract->hardnessElement = theory.getIntProperty("hardnessElement", 0);
        int numAtoms = contract->species.size();
        for (const SerializationNode& child : node.getChildren()) {
            if (child.getName() != "Validity")
                continue;
            for (const SerializationNode& range : child.getChildren()) {
                ModelContract::DistanceRange r = {range.getIntProperty("atom1"), range.getIntProperty("atom2"), range.getDoubleProperty("min"), range.getDoubleProperty("max")};
                if (min(r.atom1, r.atom2) < 0 || max(r.atom1, r.atom2) >= numAtoms || !(r.min < r.max))
                    throw OpenMMException("a distance range must name two atoms and have min < max");
                contract->distanceRanges.push_back(r);
            }
        }
        readJump(node, *contract);
        return contract.release();
    }
private:
    static void readJump(const SerializationNode& node, ModelContract& contract) {
        contract.hasForceInput = false;
        contract.jumpSteps = 0;
        contract.jumpStepSize = 0;
        if (contract.kind != "jump")
            return;
        const SerializationNode& inputs = node.getChildNode("Inputs");
        const SerializationNode& outputs = node.getChildNode("Outputs");
        contract.hasForceInput = contains(inputs, "forces");
        if (!contains(inputs, "positions") || !contains(inputs, "velocities") || inputs.getChildren().size() != (contract.hasForceInput ? 3 : 2))
            throw OpenMMException("a jump model must take positions and velocities, and may take forces");
        if (!contains(outputs, "displacements") || !contains(outputs, "velocity_changes"))
            throw OpenMMException("a jump model must return displacements and velocity_changes");
        const SerializationNode& jump = node.getChildNode("Jump");
        contract.jumpSteps = jump.getIntProperty("k");
        contract.jumpStepSize = jump.getDoubleProperty("dt");
        if (contract.jumpSteps < 1 || !(contract.jumpStepSize > 0) || !isfinite(contract.jumpStepSize))
            throw OpenMMException("a jump model must declare k (base steps, at least 1) and dt (ps, positive), found '"+jump.getStringProperty("k")+"' and '"+jump.getStringProperty("dt")+"'");
    }
};

string describe(const vector<int>& numbers) {
    string text;
    for (int number : numbers)
        text += (text.empty() ? "" : " ")+to_string(number);
    return text;
}

} // namespace

bool ModelContract::isOutsideTrainingRegion(const vector<Vec3>& positions) const {
    for (const DistanceRange& range : distanceRanges) {
        Vec3 delta = positions[range.atom1]-positions[range.atom2];
        double distance = sqrt(delta.dot(delta));
        if (!(distance >= range.min && distance <= range.max))
            return true;
    }
    return false;
}

void ModelContract::checkCorrector(const System& system, int correctorForceGroup, const vector<int>& particles, const string& owner) const {
    for (int i = 0; i < system.getNumForces(); i++) {
        const XtbForce* xtb = dynamic_cast<const XtbForce*>(&system.getForce(i));
        if (xtb == NULL || xtb->getForceGroup() != correctorForceGroup)
            continue;
        // The model's particles may come in the order that it was trained in; those of the XtbForce in the user's.
        map<int, int> numberOf;
        for (size_t j = 0; j < xtb->getParticles().size(); j++)
            numberOf[xtb->getParticles()[j]] = xtb->getAtomicNumbers()[j];
        vector<int> numbers;
        for (int particle : particles) {
            if (numberOf.count(particle) == 0 || particles.size() != numberOf.size())
                throw OpenMMException(owner+": the model and the XtbForce it stands in for act on different particles.");
            numbers.push_back(numberOf[particle]);
        }
        numbers.resize(numbers.size()+xtb->getNumLinkAtoms(), 1);
        if (numbers != species)
            throw OpenMMException(owner+": expected a model for the elements "+describe(numbers)+" (those of the particles that it was given"+(xtb->getNumLinkAtoms() > 0 ? ", link hydrogens last" : "")+"), found one for "+describe(species)+".  Give the particles in the order of the model's atoms; createQMMMSystem() and matchModel() in Python find it.");
        if (xtb->getCharge() != charge || xtb->getMultiplicity() != multiplicity)
            throw OpenMMException(owner+": expected a model for charge "+to_string(xtb->getCharge())+" and multiplicity "+to_string(xtb->getMultiplicity())+" (those of the XtbForce), found one for "+to_string(charge)+" and "+to_string(multiplicity)+".");
    }
}

ModelContract ModelContract::parse(const string& text, const string& owner) {
    if (text.empty())
        throw OpenMMException(owner+": the model file carries no contract.  Write models with openmmkstep.saveModel(), which adds one.");
    static const bool registered = [] {
        SerializationProxy::registerProxy(typeid(ModelContract), new ModelContractProxy());
        return true;
    }();
    (void) registered;
    try {
        stringstream stream(text);
        unique_ptr<ModelContract> contract(XmlSerializer::deserialize<ModelContract>(stream));
        return *contract;
    }
    catch (const exception& e) {
        throw OpenMMException(owner+": the contract in the model file cannot be used: "+e.what()+".");
    }
}
