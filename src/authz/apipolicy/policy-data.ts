import { z } from 'zod'
import { checkValue, formatProblems } from '../../runtime/config-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJsonObject } from '../../spiffe/strict-json.ts'
import type { CallerClass } from '../server-api-policy.ts'

/** Of the file, in characters, and of the rows in it. */
const most = { length: 1_048_576, rows: 10_000 }

const right = z.boolean().default(false)
const schema = z.strictObject({
  apis: z.array(z.strictObject({
    full_method: z.string().regex(/^\/[\w.]{1,200}\/\w{1,100}$/, 'must be a method such as /spire.api.server.entry.v1.Entry/GetEntry'),
    allow_any: right,
    allow_admin: right,
    allow_local: right,
    allow_downstream: right,
    allow_agent: right
  })).max(most.rows, `must not have more than ${most.rows} members`)
})

/** Method to its callers. */
export type PolicyTable = ReadonlyMap<string, readonly CallerClass[]>

/**
 * Reads the data file of SPIRE's standard policy. Rows of one method add up, as they do there. Stricter than Rego, in which whatever is
 * not false is true, and a misspelt key is nothing.
 * @throws {SpiffeError} `policy_malformed`
 */
export function readPolicyData (name: string, text: string): PolicyTable {
  let raw: unknown
  try {
    raw = parseStrictJsonObject(text, { maxLength: most.length })
  } catch (error) {
    throw new SpiffeError('policy_malformed', `${name}: ${(error as Error).message}`, { cause: error })
  }
  const reading = checkValue(schema, raw, () => name)
  if (reading.value === undefined) throw new SpiffeError('policy_malformed', formatProblems(reading.problems))
  const table = new Map<string, readonly CallerClass[]>()
  for (const api of reading.value.apis) {
    const given: Array<[boolean, CallerClass]> = [
      [api.allow_any, 'anyone'], [api.allow_local, 'local'], [api.allow_admin, 'admin'], [api.allow_agent, 'agent'],
      [api.allow_downstream, 'downstream']
    ]
    const callers = given.flatMap(([allowed, caller]) => allowed ? [caller] : [])
    table.set(api.full_method, [...new Set([...table.get(api.full_method) ?? [], ...callers])])
  }
  return table
}
