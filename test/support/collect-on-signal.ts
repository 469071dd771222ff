// Loaded into a gateway (`--expose-gc --import`): SIGUSR2 collects what nobody holds, so that what is left can be measured.
process.on('SIGUSR2', () => globalThis.gc?.())
