// One program of a few files: a start reads them at once, where the hundreds of modules they come from cost 100 ms more.
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Plugin } from 'rolldown'
import { defineConfig } from 'rolldown'

/** Puts the licence of every package that is in the program beside it, as those ask for. */
const licences: Plugin = {
  name: 'licences',
  generateBundle(_options, bundle) {
    const modules = Object.values(bundle).flatMap((file) => (file.type === 'chunk' ? file.moduleIds : []))
    const packages = new Set(modules.flatMap((id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id)?.[0] ?? []))
    for (const root of packages) {
      const [file] = globSync('{LICENSE,LICENCE}*', { cwd: root })
      if (file === undefined) throw new Error(`Cannot build: ${root} has no licence to show`)
      const name = root.slice(root.lastIndexOf('/node_modules/') + '/node_modules/'.length).replace('/', '-')
      this.emitFile({ type: 'asset', fileName: `licences/${name}`, source: readFileSync(join(root, file)) })
    }
  },
}

// biome-ignore lint/style/noDefaultExport: what rolldown reads
export default defineConfig({
  input: join(dirname(import.meta.filename), 'src/main.ts'),
  platform: 'node',
  plugins: [licences],
  output: {
    dir: 'dist',
    cleanDir: true,
    // Names stay, so that a stack can be read; node --enable-source-maps tells the lines of src.
    minify: false,
    sourcemap: true,
    entryFileNames: '[name].js',
    chunkFileNames: '[name].js',
  },
})
