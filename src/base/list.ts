import * as z from 'zod'

// Some twenty times as many as are told: a mistake counts once for each list around it.
const maxIssues = 4000

/** How many issues the lists of one parse have come upon, by its context. */
const issuesOf = new WeakMap<object, number>()

// An assertion is taken from a name with a type of its own only.
const zodArray: z.core.$constructor<z.ZodArray> = z.ZodArray
const List = z.core.$constructor('List', (inst: z.ZodArray, def: z.core.$ZodArrayDef) => {
  zodArray.init(inst, def)
  const parseWhole = inst._zod.parse
  const most = Math.min(...z.core.util.sizeCaps(def.checks).map(([size]) => size))
  inst._zod.parse = (payload, context) => {
    const input = payload.value
    // Of one that is too long, zod looks at no member.
    if (!Array.isArray(input) || input.length > most) return parseWhole(payload, context)
    const members: unknown[] = []
    for (const [at, value] of input.entries()) {
      const before = issuesOf.get(context) ?? 0
      if (before > maxIssues) {
        // Whatever becomes of the issues before: what nobody has looked at is not taken.
        const message = 'it was not looked at, since too much is wrong before it'
        payload.issues.push({ code: 'custom', path: [at], message, input: value, inst })
        break
      }
      const member = def.element._zod.run({ value, issues: [] }, context)
      if (member instanceof Promise) throw new TypeError('Cannot read a list: its members wait, wanted none that do')
      if (member.issues.length > 0) issuesOf.set(context, (issuesOf.get(context) ?? 0) + member.issues.length)
      for (const issue of z.core.util.prefixIssues(at, member.issues)) payload.issues.push(issue)
      members.push(member.value)
    }
    payload.value = members
    return payload
  }
})

/**
 * A list like zod's, but the lists of one parse stop when 4,000 issues have come together: 64 KB of YAML can otherwise
 * make hundreds of MiB of issues, of which 200 are told.
 * Of a union's options only one may take a list, since those that do not fit count as well.
 */
export function list<T extends z.ZodType>(element: T): z.ZodArray<T> {
  // It is what z.array makes, but for how it is gone through.
  return new List({ type: 'array', element }) as unknown as z.ZodArray<T>
}

/** A map by names that are not known beforehand; of one with more than `most` of them, none is looked at. */
export function mapUpTo<K extends z.core.$ZodRecordKey, V extends z.ZodType>(most: number, key: K, value: V) {
  const error = `expected at most ${most} keys`
  return z.preprocess(
    (input, context) => {
      if (typeof input === 'object' && input !== null && Object.keys(input).length > most)
        context.issues.push({ code: 'custom', message: error, input })
      return input
    },
    z.record(key, value).meta({ maxProperties: most }),
  )
}
