// Loaded before everything else (--import): what a test takes from src comes from dist, as it is published.
import { registerHooks } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const source = pathToFileURL(join(import.meta.dirname, '../src/')).href
const built = pathToFileURL(join(import.meta.dirname, '../dist/')).href

registerHooks({
  resolve(specifier, context, next) {
    const resolved = next(specifier, context)
    if (!resolved.url.startsWith(source)) return resolved
    const { format: _typescript, ...rest } = resolved
    return { ...rest, url: `${built}${resolved.url.slice(source.length, -'.ts'.length)}.js`, format: 'module' }
  },
})
