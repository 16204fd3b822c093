/* An unwinder for a program that never unwinds (panic = "abort"): a backtrace of it has no frames.
   The static builds link it where a toolchain for musl has none of its own. */

int _Unwind_Backtrace(void *visit, void *argument) {
    (void)visit;
    (void)argument;
    return 5; /* _URC_END_OF_STACK */
}

unsigned long _Unwind_GetIP(void *context) {
    (void)context;
    return 0;
}

unsigned long _Unwind_GetCFA(void *context) {
    (void)context;
    return 0;
}

void *_Unwind_FindEnclosingFunction(void *address) {
    (void)address;
    return 0;
}
