import { z } from 'zod'
import type { Terminal } from '../terminal.ts'
import { CniError, cniCode } from './cni-error.ts'
import { defaultXdsSocket } from './mesh-client.ts'

export const cniVersions = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

/** Of all of standard input: a node has hundreds of pods, and what GC hands in names each. */
const longestInput = 4 * 1024 * 1024
const mostArguments = 100

const configSchema = z.looseObject({
  cniVersion: z.enum(cniVersions).default('0.3.0'),
  name: z.string().max(256).default(''),
  /** Of the agent. */
  socketPath: z.string().min(1).default(defaultXdsSocket),
  /** What becomes of a pod when the agent does not answer or fails: it does not start, or it starts as if there were no mesh. */
  onFailure: z.enum(['fail-closed', 'pass']).default('fail-closed'),
  /** Pods of these start although the agent does not answer: the node cannot do without them, or the agent cannot. */
  exemptNamespaces: z.array(z.string()).default(['kube-system']),
  /** For the agent's answer. */
  timeoutSeconds: z.number().min(1).max(100).default(30),
  /** What the plugins before said; there is an address in it, or this one stands at the wrong place. */
  prevResult: z.looseObject({ ips: z.array(z.looseObject({ address: z.string() })).default([]) }).optional(),
  /** Of GC. */
  'cni.dev/valid-attachments': z.array(z.looseObject({ containerID: z.string() })).optional()
})
export type CniConfig = z.output<typeof configSchema>

/** @throws {CniError} */
export async function readCniConfig (terminal: Terminal): Promise<CniConfig> {
  const text = await terminal.readInput()
  if (text.length > longestInput) throw new CniError(cniCode.decodingFailure, `standard input has more than ${longestInput} bytes`)
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch (error) {
    throw new CniError(cniCode.decodingFailure, `the configuration on standard input cannot be used: ${(error as Error).message}`)
  }
  const { data, error } = configSchema.safeParse(raw)
  if (data !== undefined) return data
  const problems = error.issues.map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`).join('; ')
  const isVersion = error.issues.some(({ path }) => path[0] === 'cniVersion')
  const ours = ['socketPath', 'onFailure', 'exemptNamespaces', 'timeoutSeconds']
  const isOurs = error.issues.some(({ path }) => ours.includes(String(path[0])))
  const code = isVersion ? cniCode.incompatibleVersion : isOurs ? cniCode.invalidConfiguration : cniCode.decodingFailure
  throw new CniError(code, `the configuration on standard input cannot be used: ${problems}`)
}

/** @throws {CniError} */
export function requiredVariable ({ environment }: Terminal, name: string): string {
  const value = environment[name]
  if (value === undefined || value === '') throw new CniError(cniCode.invalidEnvironment, `${name} is missing`)
  return value
}

/**
 * Reads `CNI_ARGS`: `A=b;C=d`. Switches of the runtime's own are no facts about the workload, and empty ones say nothing.
 * @throws {CniError}
 */
export function readCniArguments (text: string): ReadonlyMap<string, string> {
  const parts = text.split(';').filter(part => part !== '')
  if (parts.length > mostArguments) throw new CniError(cniCode.invalidEnvironment, `CNI_ARGS has more than ${mostArguments} parts`)
  const facts = new Map<string, string>()
  for (const part of parts) {
    const [, name, value] = /^(\w+)=(.*)$/.exec(part) ?? []
    if (name === undefined || value === undefined) {
      throw new CniError(cniCode.invalidEnvironment, `CNI_ARGS must be NAME=value;NAME=value, not ${JSON.stringify(part.slice(0, 100))}`)
    }
    if (facts.has(name)) throw new CniError(cniCode.invalidEnvironment, `CNI_ARGS has ${name} twice`)
    if (name !== 'IgnoreUnknown' && value !== '') facts.set(name, value)
  }
  return facts
}
