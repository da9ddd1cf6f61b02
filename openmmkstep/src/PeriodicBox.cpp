#include "openmmkstep/internal/PeriodicBox.h"
#include "openmm/System.h"
#include "openmm/internal/ContextImpl.h"
#include <limits>

using namespace OpenMMKStep;
using namespace OpenMM;
using namespace std;

PeriodicBox PeriodicBox::getBox(ContextImpl& context) {
    if (!context.getSystem().usesPeriodicBoundaryConditions())
        return PeriodicBox();
    Vec3 a, b, c;
    context.getPeriodicBoxVectors(a, b, c);
    return PeriodicBox(a, b, c);
}

void PeriodicBox::makeWhole(vector<Vec3>& x) const {
    int n = x.size();
    if (!periodic || n == 0)
        return;
    double farthest2 = 0;
    for (int i = 0; i < n; i++) {
        Vec3 delta = getImage(x[i]-x[0]);
        x[i] = x[0]+delta;
        farthest2 = max(farthest2, delta.dot(delta));
    }
    if (farthest2 <= 0.0625*getSmallestWidth()*getSmallestWidth())
        return;
    vector<int> nearest(n, 0);
    vector<bool> isPlaced(n, false);
    vector<double> distance2(n, numeric_limits<double>::max());
    for (int placed = 0, i = 0; placed < n; placed++) {
        if (placed > 0) {
            i = -1;
            for (int j = 0; j < n; j++)
                if (!isPlaced[j] && (i == -1 || distance2[j] < distance2[i]))
                    i = j;
            x[i] = x[nearest[i]]+getImage(x[i]-x[nearest[i]]);
        }
        isPlaced[i] = true;
        for (int j = 0; j < n; j++) {
            Vec3 delta = getImage(x[j]-x[i]);
            double r2 = delta.dot(delta);
            if (!isPlaced[j] && r2 < distance2[j]) {
                distance2[j] = r2;
                nearest[j] = i;
            }
        }
    }
}
