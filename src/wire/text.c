#include "wire/text.h"
