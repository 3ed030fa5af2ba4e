// Hints: the whole space is defined to be executable; without pointer-authentication keys all of it does nothing.
#include "frontends/arm/base_hint.decode.h"

namespace kiln::arm {

Lift lift_hint(Lifter&, const fields::hint&) { return Lift::Next; }

}  // namespace kiln::arm
