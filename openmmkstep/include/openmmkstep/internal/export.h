#ifndef OPENMMKSTEP_EXPORT_H_
#define OPENMMKSTEP_EXPORT_H_

// Everything is compiled with -fvisibility=hidden; only what carries this mark leaves a library.
#define OPENMM_EXPORT_KSTEP __attribute__((visibility("default")))

#endif /*OPENMMKSTEP_EXPORT_H_*/
