#include "TestUtilities.h"
#include "openmm/serialization/SerializationNode.h"
#include "openmm/serialization/XmlSerializer.h"
#include "openmmkstep/KStepModelForce.h"
#include "openmmkstep/XtbForce.h"
#include <memory>
#include <sstream>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

/**
 * XML of the three classes.  Every field is set to a value that is not its default, so a field that is left out shows.
 */

template <class T>
static string toXml(const T& object, const string& rootName) {
    stringstream stream;
    XmlSerializer::serialize<T>(&object, rootName, stream);
    return stream.str();
}

template <class T>
static unique_ptr<T> fromXml(const string& xml) {
    stringstream stream(xml);
    return unique_ptr<T>(XmlSerializer::deserialize<T>(stream));
}

static string replaceOnce(const string& text, const string& from, const string& to) {
    size_t position = text.find(from);
    ASSERT(position != string::npos);
    string result = text;
    return result.replace(position, from.size(), to);
}

void testKStepIntegrator(const string& scheme) {
    KStepIntegrator integrator(0.00037, 7, scheme, 312.5, 2.25);
    integrator.setConstraintTolerance(3e-7);
    integrator.setRandomNumberSeed(-12345);
    integrator.setCorrectorForceGroup(4);
    integrator.setModelForceGroup(9);
    integrator.setExtraChances(6);
    integrator.setThermostat("bussi");
    integrator.setErrorRecovery(false);
    integrator.setRegion({7, 3, 5}, 312.5, 1.75, "bussi");
    integrator.setRegion({1}, 312.5, 0.5);
    integrator.setAdaptive(scheme == "impulse");
    integrator.setIncludeShadowWork(scheme == "metropolis");
    integrator.setMollification({{3, 5, 0.0123}, {3, 4, 0.153}});
    integrator.setAllowResonance(true);
    integrator.setMollifiedAngles({{5, 3, 4, 1.91}});
    integrator.setIntegrationForceGroups((1<<0) | (1<<4) | (1<<9) | (1<<31));
    string xml = toXml<Integrator>(integrator, "Integrator");
    unique_ptr<Integrator> base = fromXml<Integrator>(xml);
    ASSERT(dynamic_cast<KStepIntegrator*>(base.get()) != NULL);
    KStepIntegrator& copy = dynamic_cast<KStepIntegrator&>(*base);
    ASSERT_EQUAL(0.00037, copy.getBaseStepSize());
    ASSERT_EQUAL(7, copy.getK());
    ASSERT_EQUAL(scheme, copy.getScheme());
    ASSERT_EQUAL(312.5, copy.getTemperature());
    ASSERT_EQUAL(2.25, copy.getFriction());
    ASSERT_EQUAL(3e-7, copy.getConstraintTolerance());
    ASSERT_EQUAL(-12345, copy.getRandomNumberSeed());
    ASSERT_EQUAL(4, copy.getCorrectorForceGroup());
    ASSERT_EQUAL(9, copy.getModelForceGroup());
    ASSERT_EQUAL(6, copy.getExtraChances());
    ASSERT(copy.getAllowResonance());
    ASSERT_EQUAL(2, copy.getMollification().size());
    KStepIntegrator::MollifiedBond bond = copy.getMollification()[0];
    ASSERT(bond.particle1 == 3 && bond.particle2 == 5 && bond.length == 0.0123);
    ASSERT_EQUAL(1, copy.getMollifiedAngles().size());
    KStepIntegrator::MollifiedAngle angle = copy.getMollifiedAngles()[0];
    ASSERT(angle.particle1 == 5 && angle.particle2 == 3 && angle.particle3 == 4 && angle.angle == 1.91);
    ASSERT_EQUAL("bussi", copy.getThermostat());
    ASSERT(!copy.getErrorRecovery());
    ASSERT_EQUAL(scheme == "impulse", copy.getAdaptive());
    ASSERT_EQUAL(scheme == "metropolis", copy.getIncludeShadowWork());
    ASSERT_EQUAL(2, copy.getNumRegions());
    ASSERT(copy.getRegion(0).particles == vector<int>({3, 5, 7}));
    ASSERT_EQUAL(312.5, copy.getRegion(0).temperature);
    ASSERT_EQUAL(1.75, copy.getRegion(0).friction);
    ASSERT_EQUAL("bussi", copy.getRegion(0).thermostat);
    ASSERT(copy.getRegion(1).particles == vector<int>({1}));
    ASSERT_EQUAL(0.5, copy.getRegion(1).friction);
    ASSERT_EQUAL("langevin", copy.getRegion(1).thermostat);
    int hidden = (scheme == "reweight" ? 4 : 9);
    ASSERT_EQUAL(((1<<0) | (1<<4) | (1<<9) | (1<<31)) & ~(1<<hidden), copy.getIntegrationForceGroups());
    // That group is hidden by getIntegrationForceGroups() but has to survive in what was set.
    copy.setModelForceGroup(10);
    copy.setCorrectorForceGroup(11);
    ASSERT_EQUAL((1<<0) | (1<<4) | (1<<9) | (1<<31), copy.getIntegrationForceGroups());
    copy.setModelForceGroup(9);
    copy.setCorrectorForceGroup(4);
    ASSERT_EQUAL(xml, toXml<Integrator>(copy, "Integrator"));
    ASSERT_THROWS(fromXml<Integrator>(replaceOnce(xml, "version=\"2\"", "version=\"3\"")), "Unsupported version number 3");
}

void testJump() {
    KStepIntegrator integrator(0.0005, 5, "jump", 300, 0);
    const string data("\0binary\xff\n<&", 11);
    integrator.setJumpModelData(data, {7, 3, 5});
    integrator.setJumpNumThreads(3);
    integrator.setAllowJumpWithoutThermostat(true);
    string xml = toXml<Integrator>(integrator, "Integrator");
    unique_ptr<Integrator> base = fromXml<Integrator>(xml);
    KStepIntegrator& copy = dynamic_cast<KStepIntegrator&>(*base);
    ASSERT_EQUAL("jump", copy.getScheme());
    ASSERT(copy.getJumpModelData() == data);
    ASSERT(copy.getJumpParticles() == vector<int>({7, 3, 5}));
    ASSERT_EQUAL(3, copy.getJumpNumThreads());
    ASSERT(copy.getAllowJumpWithoutThermostat());
    ASSERT_EQUAL(0, copy.getFriction());
    ASSERT_EQUAL(xml, toXml<Integrator>(copy, "Integrator"));
    KStepIntegrator empty(0.0005, 5, "jump", 300);
    base = fromXml<Integrator>(toXml<Integrator>(empty, "Integrator"));
    ASSERT(dynamic_cast<KStepIntegrator&>(*base).getJumpModelData().empty());
    ASSERT(!dynamic_cast<KStepIntegrator&>(*base).getAllowJumpWithoutThermostat());
}

/** What version 0.1 of the plugin wrote. */
void testOldVersion() {
    string xml = "<?xml version=\"1.0\" ?><Integrator baseStepSize=\".0005\" constraintTolerance=\"1e-6\" correctorForceGroup=\"1\" "
            "extraChances=\"3\" friction=\"0\" integrationForceGroups=\"-1\" k=\"8\" modelForceGroup=\"2\" randomSeed=\"5\" "
            "scheme=\"impulse\" temperature=\"0\" type=\"KStepIntegrator\" version=\"1\"><MollifiedBonds>"
            "<Bond length=\".109\" particle1=\"0\" particle2=\"4\"/></MollifiedBonds></Integrator>";
    unique_ptr<Integrator> base = fromXml<Integrator>(xml);
    KStepIntegrator& integrator = dynamic_cast<KStepIntegrator&>(*base);
    ASSERT_EQUAL(8, integrator.getK());
    ASSERT_EQUAL(1, (int) integrator.getMollification().size());
    ASSERT_EQUAL(0, integrator.getNumRegions());
    ASSERT_EQUAL("langevin", integrator.getThermostat());
    ASSERT(integrator.getErrorRecovery());
    ASSERT(integrator.getMollifiedAngles().empty());
    ASSERT(!integrator.getAllowResonance());
}

/** Values of an impulse integrator without friction, which is not what the constructor's default argument says. */
void testFrictionlessIntegrator() {
    KStepIntegrator integrator(0.001, 4);
    string xml = toXml<Integrator>(integrator, "Integrator");
    unique_ptr<Integrator> copy = fromXml<Integrator>(xml);
    ASSERT_EQUAL(0.0, dynamic_cast<KStepIntegrator&>(*copy).getFriction());
    ASSERT_EQUAL(0.0, dynamic_cast<KStepIntegrator&>(*copy).getTemperature());
    ASSERT_EQUAL(xml, toXml<Integrator>(*copy, "Integrator"));
}

/** Set all that QMRegionForce has; the region has three particles. */
static void fillRegion(QMRegionForce& force) {
    force.setName("a <name> & \"more\"");
    force.setForceGroup(17);
    force.setFixedCharge(0, 0.1234567890123456);
    force.setFixedCharge(1, -1.0/3);
    force.setFixedCharge(2, 1e-17);
    force.addEmbeddingCharge(8, 0.417);
    force.addEmbeddingCharge(6, -0.834, 2);
    force.addEmbeddingCharge(9, 1e-300, 86);
    force.addLinkAtom(2, 8, 0.109);
    force.addLinkAtom(11, 9, 1.0/9);
    force.addVirtualCharge({8}, {1.0}, -0.25);
    force.addVirtualCharge({8, 5}, {1.1, -0.1}, 1.0/7, 2);
    force.addException(2, 8, -1.0/11);
    force.addException(5, 6, 0);
    force.addEmbeddingGroup({6, 7, 10}, 7);
    force.addEmbeddingGroup({8, 9}, -1, false);
    force.setCutoffDistance(1.25);
    force.setSwitchingDistance(0.875);
    force.setUsesPeriodicBoundaryConditions(true);
}

static void assertBoundary(const QMRegionForce& expected, const QMRegionForce& found) {
    ASSERT_EQUAL(expected.getNumLinkAtoms(), found.getNumLinkAtoms());
    for (int i = 0; i < expected.getNumLinkAtoms(); i++) {
        int qm1, qm2, mm1, mm2;
        double distance1, distance2;
        expected.getLinkAtomParameters(i, qm1, mm1, distance1);
        found.getLinkAtomParameters(i, qm2, mm2, distance2);
        ASSERT_EQUAL(qm1, qm2);
        ASSERT_EQUAL(mm1, mm2);
        ASSERT_EQUAL(distance1, distance2);
    }
    ASSERT_EQUAL(expected.getNumVirtualCharges(), found.getNumVirtualCharges());
    for (int i = 0; i < expected.getNumVirtualCharges(); i++) {
        vector<int> particles1, particles2;
        vector<double> weights1, weights2;
        double charge1, charge2;
        int number1, number2;
        expected.getVirtualChargeParameters(i, particles1, weights1, charge1, number1);
        found.getVirtualChargeParameters(i, particles2, weights2, charge2, number2);
        ASSERT_EQUAL_CONTAINERS(particles1, particles2);
        ASSERT_EQUAL_CONTAINERS(weights1, weights2);
        ASSERT_EQUAL(charge1, charge2);
        ASSERT_EQUAL(number1, number2);
    }
    ASSERT_EQUAL(expected.getNumExceptions(), found.getNumExceptions());
    for (int i = 0; i < expected.getNumExceptions(); i++) {
        int qm1, qm2, mm1, mm2;
        double product1, product2;
        expected.getExceptionParameters(i, qm1, mm1, product1);
        found.getExceptionParameters(i, qm2, mm2, product2);
        ASSERT_EQUAL(qm1, qm2);
        ASSERT_EQUAL(mm1, mm2);
        ASSERT_EQUAL(product1, product2);
    }
}

static void assertRegion(const QMRegionForce& expected, const QMRegionForce& found) {
    ASSERT_EQUAL(expected.getName(), found.getName());
    ASSERT_EQUAL(expected.getForceGroup(), found.getForceGroup());
    ASSERT_EQUAL_CONTAINERS(expected.getParticles(), found.getParticles());
    for (int i = 0; i < expected.getNumParticles(); i++)
        ASSERT_EQUAL(expected.getFixedCharge(i), found.getFixedCharge(i));
    ASSERT_EQUAL(expected.getNumEmbeddingCharges(), found.getNumEmbeddingCharges());
    for (int i = 0; i < expected.getNumEmbeddingCharges(); i++) {
        int particle1, particle2, number1, number2;
        double charge1, charge2;
        expected.getEmbeddingChargeParameters(i, particle1, charge1, number1);
        found.getEmbeddingChargeParameters(i, particle2, charge2, number2);
        ASSERT_EQUAL(particle1, particle2);
        ASSERT_EQUAL(charge1, charge2);
        ASSERT_EQUAL(number1, number2);
    }
    assertBoundary(expected, found);
    ASSERT_EQUAL(expected.getCutoffDistance(), found.getCutoffDistance());
    ASSERT_EQUAL(expected.getSwitchingDistance(), found.getSwitchingDistance());
    ASSERT_EQUAL(expected.usesPeriodicBoundaryConditions(), found.usesPeriodicBoundaryConditions());
    ASSERT_EQUAL(expected.getNumEmbeddingGroups(), found.getNumEmbeddingGroups());
    for (int i = 0; i < expected.getNumEmbeddingGroups(); i++) {
        vector<int> particles1, particles2;
        int center1, center2;
        bool switched1, switched2;
        expected.getEmbeddingGroupParameters(i, particles1, center1, switched1);
        found.getEmbeddingGroupParameters(i, particles2, center2, switched2);
        ASSERT_EQUAL_CONTAINERS(particles1, particles2);
        ASSERT_EQUAL(center1, center2);
        ASSERT_EQUAL(switched1, switched2);
    }
}

/** What version 1 of the XML did not have: a region without boundary, cutoff and groups. */
void testOldForce() {
    string xml = "<?xml version=\"1.0\" ?><Force accuracy=\".2\" charge=\"0\" electronicTemperature=\"300\" forceGroup=\"1\" "
            "maxIterations=\"250\" method=\"GFN2-xTB\" multiplicity=\"1\" name=\"XtbForce\" numThreads=\"1\" type=\"XtbForce\" version=\"1\">"
            "<Particles><Particle fixedCharge=\"-.25\" index=\"4\"/></Particles><EmbeddingCharges><Charge atomicNumber=\"10\" particle=\"2\" q=\".5\"/>"
            "</EmbeddingCharges><Elements><Element number=\"2\"/></Elements></Force>";
    unique_ptr<Force> base = fromXml<Force>(xml);
    XtbForce& force = dynamic_cast<XtbForce&>(*base);
    ASSERT_EQUAL(-0.25, force.getFixedCharge(0));
    ASSERT_EQUAL(1, force.getNumEmbeddingCharges());
    ASSERT_EQUAL(0, force.getNumLinkAtoms()+force.getNumVirtualCharges()+force.getNumExceptions()+force.getNumEmbeddingGroups());
    ASSERT_EQUAL(0.0, force.getCutoffDistance());
    ASSERT_EQUAL(string("auto"), force.getEngine());
    ASSERT(!force.usesPeriodicBoundaryConditions());
}

void testXtbForce() {
    XtbForce force("GFN1-xTB", {5, 2, 11}, {8, 1, 1}, 1, 2);
    force.setAccuracy(0.37);
    force.setEngine("tblite");
    force.setElectronicTemperature(1234.5);
    force.setMaxIterations(77);
    force.setNumThreads(3);
    fillRegion(force);
    string xml = toXml<Force>(force, "Force");
    unique_ptr<Force> base = fromXml<Force>(xml);
    ASSERT(dynamic_cast<XtbForce*>(base.get()) != NULL);
    XtbForce& copy = dynamic_cast<XtbForce&>(*base);
    assertRegion(force, copy);
    ASSERT_EQUAL(string("GFN1-xTB"), copy.getMethod());
    ASSERT_EQUAL_CONTAINERS((vector<int>{8, 1, 1}), copy.getAtomicNumbers());
    ASSERT_EQUAL(1, copy.getCharge());
    ASSERT_EQUAL(2, copy.getMultiplicity());
    ASSERT_EQUAL(0.37, copy.getAccuracy());
    ASSERT_EQUAL(string("tblite"), copy.getEngine());
    ASSERT_EQUAL(1234.5, copy.getElectronicTemperature());
    ASSERT_EQUAL(77, copy.getMaxIterations());
    ASSERT_EQUAL(3, copy.getNumThreads());
    ASSERT_EQUAL(xml, toXml<Force>(copy, "Force"));
    ASSERT_THROWS(fromXml<Force>(replaceOnce(xml, "version=\"3\"", "version=\"0\"")), "Unsupported version number 0");
    ASSERT_THROWS(fromXml<Force>(replaceOnce(xml, "GFN1-xTB", "GFN3-xTB")), "found 'GFN3-xTB'");
}

static string toModelXml(const string& data) {
    unique_ptr<KStepModelForce> force(KStepModelForce::fromModelData(data, {5, 2, 11}));
    force->setCorrectorForceGroup(23);
    fillRegion(*force);
    return toXml<Force>(*force, "Force");
}

/** The model's bytes travel in the XML, whatever they are. */
void testKStepModelForce() {
    vector<string> files = {"", string(1, '\0'), string(2, '\0'), string(3, '\0'), "\xff", "\xff\xfe", "\xff\xfe\xfd", "=<&>\"'\n"};
    string allBytes;
    for (int i = 0; i < 256; i++)
        allBytes += (char) i;
    for (int remainder = 0; remainder < 3; remainder++)
        files.push_back(allBytes+allBytes.substr(0, remainder+1));
    for (const string& data : files) {
        string xml = toModelXml(data);
        unique_ptr<Force> base = fromXml<Force>(xml);
        ASSERT(dynamic_cast<KStepModelForce*>(base.get()) != NULL);
        KStepModelForce& copy = dynamic_cast<KStepModelForce&>(*base);
        unique_ptr<KStepModelForce> expected(KStepModelForce::fromModelData(data, {5, 2, 11}));
        fillRegion(*expected);
        assertRegion(*expected, copy);
        ASSERT_EQUAL(23, copy.getCorrectorForceGroup());
        ASSERT_EQUAL(data.size(), copy.getModelData().size());
        ASSERT_EQUAL_CONTAINERS(data, copy.getModelData());
        ASSERT_EQUAL(xml, toXml<Force>(copy, "Force"));
    }
    // XML from before there was a choice has no device.
    unique_ptr<KStepModelForce> force(KStepModelForce::fromModelData("foobar", {5, 2, 11}));
    ASSERT_EQUAL("cpu", force->getDevice());
    ASSERT(toModelXml("foobar").find("device") == string::npos);
    force->setDevice("cuda:1");
    unique_ptr<Force> copy = fromXml<Force>(toXml<Force>(*force, "Force"));
    ASSERT_EQUAL("cuda:1", dynamic_cast<KStepModelForce&>(*copy).getDevice());
    // The encoding is standard base64 (RFC 4648, section 10), which other programs can read.
    ASSERT(toModelXml("foob").find("base64=\"Zm9vYg==\"") != string::npos);
    ASSERT(toModelXml("fooba").find("base64=\"Zm9vYmE=\"") != string::npos);
    ASSERT(toModelXml("foobar").find("base64=\"Zm9vYmFy\"") != string::npos);
}

void testBadModelXml() {
    string xml = toModelXml("foobar");
    ASSERT_THROWS(fromXml<Force>(replaceOnce(xml, "version=\"2\"", "version=\"3\"")), "Unsupported version number 3");
    for (string truncated : {"Zm9vYmF", "Zm9vYm", "Zm9vY"})
        ASSERT_THROWS(fromXml<Force>(replaceOnce(xml, "Zm9vYmFy", truncated)), "truncated");
    for (string corrupt : {"Zm9v*mFy", "Zm9vY=Fy", "Zm9v=mFy", "Zm==YmFy", "Zm9vY===", "====", "Zm9vYg=A", "Zm9v YmF"})
        ASSERT_THROWS(fromXml<Force>(replaceOnce(xml, "Zm9vYmFy", corrupt)), "corrupt");
}

/** A whole System with both forces, as users save it. */
void testSystem() {
    System system;
    for (int i = 0; i < 12; i++)
        system.addParticle(1.5+i);
    XtbForce* xtb = new XtbForce("GFN2-xTB", {5, 2, 11}, {8, 1, 1});
    fillRegion(*xtb);
    system.addForce(xtb);
    KStepModelForce* model = KStepModelForce::fromModelData("foobar", {5, 2, 11});
    fillRegion(*model);
    system.addForce(model);
    string xml = toXml<System>(system, "System");
    unique_ptr<System> copy = fromXml<System>(xml);
    ASSERT_EQUAL(2, copy->getNumForces());
    assertRegion(*xtb, dynamic_cast<XtbForce&>(copy->getForce(0)));
    assertRegion(*model, dynamic_cast<KStepModelForce&>(copy->getForce(1)));
    ASSERT_EQUAL(xml, toXml<System>(*copy, "System"));
}

int main() {
    try {
        testKStepIntegrator("impulse");
        testKStepIntegrator("metropolis");
    testKStepIntegrator("reweight");
        testJump();
        testOldVersion();
        testOldForce();
    testFrictionlessIntegrator();
        testXtbForce();
        testKStepModelForce();
        testBadModelXml();
        testSystem();
    }
    catch (const exception& e) {
        cout << "exception: " << e.what() << endl;
        return 1;
    }
    cout << "Done" << endl;
    return 0;
}
