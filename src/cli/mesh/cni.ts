import { z } from 'zod'
import { SpiffeError } from '../../spiffe/errors.ts'
import { defineCommand } from '../command.ts'
import { refusalOf } from '../refusal.ts'
import type { Terminal } from '../terminal.ts'
import { defaultXdsSocket, withMesh } from './mesh-client.ts'

const versions = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']

const configSchema = z.looseObject({
  cniVersion: z.string().default('0.3.0'),
  name: z.string().default(''),
  /** Of the agent. */
  socketPath: z.string().default(defaultXdsSocket),
  /** What the plugins before said; there is an address in it, or this one stands at the wrong place. */
  prevResult: z.looseObject({ ips: z.array(z.looseObject({ address: z.string() })).default([]) }).optional()
})
type Config = z.output<typeof configSchema>

/** Error codes of the CNI specification, §"Error": 4 and 6 to 7 are the caller's, from 100 on a plugin's own. */
const invalidEnvironment = 4
const decodingFailure = 6
const tryAgainLater = 11
const ownError = 100

/**
 * A container runtime's plugin (CNI specification 1.1): the last of a chain, it tells the agent which workloads come and go.
 * Everything comes by the environment and standard input, and goes to standard output.
 */
export const cni = defineCommand({
  flags: {},
  details: 'Called by container runtimes, not by people: CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS and CNI_ARGS in the environment,\n' +
    'the plugin\'s configuration on standard input. `bin/assay-cni` is the program to put among the plugins: docs/mesh.md.',
  examples: ['CNI_COMMAND=VERSION assay cni < /dev/null'],
  async run ({ terminal }) {
    let config: Config | undefined
    try {
      const command = required(terminal, 'CNI_COMMAND')
      if (command === 'VERSION') {
        answer(terminal, { cniVersion: versions.at(-1), supportedVersions: versions })
        return 0
      }
      config = readConfig(await terminal.readInput())
      await act(command, config, terminal)
      return 0
    } catch (error) {
      answer(terminal, failureOf(error, config?.cniVersion ?? '0.3.0'))
      return 1
    }
  }
})

async function act (command: string, config: Config, terminal: Terminal): Promise<void> {
  const { socketPath, prevResult } = config
  const id = required(terminal, 'CNI_CONTAINERID')
  const options = { signal: terminal.signal, timeoutMs: 20_000 }
  switch (command) {
    case 'ADD': case 'CHECK': {
      const facts = argumentsOf(terminal.environment['CNI_ARGS'] ?? '')
      const pod = facts.get('K8S_POD_NAME')
      await withMesh(socketPath, mesh => mesh.addWorkload({
        id,
        netnsPath: required(terminal, 'CNI_NETNS'),
        name: pod === undefined ? '' : `${facts.get('K8S_POD_NAMESPACE') ?? ''}/${pod}`,
        addresses: (prevResult?.ips ?? []).map(({ address }) => address.replace(/\/\d+$/, '')),
        selectors: [
          ...config.name === '' ? [] : [{ type: 'cni', value: `network:${config.name}` }],
          ...[...facts].map(([name, value]) => ({ type: 'cni', value: `${name}:${value}` }))
        ]
      }, options))
      // What the plugins before said goes on unchanged.
      if (command === 'ADD') answer(terminal, prevResult ?? { cniVersion: config.cniVersion })
      return
    }
    case 'DEL': await withMesh(socketPath, mesh => mesh.removeWorkload({ id }, options)); return
    case 'GC': case 'STATUS': return
    default: throw new CniError(invalidEnvironment, `CNI_COMMAND ${JSON.stringify(command)} is not known`)
  }
}

class CniError extends Error {
  readonly cniCode: number

  constructor (cniCode: number, message: string) {
    super(message)
    this.cniCode = cniCode
  }
}

function required ({ environment }: Terminal, name: string): string {
  const value = environment[name]
  if (value === undefined || value === '') throw new CniError(invalidEnvironment, `${name} is missing`)
  return value
}

function readConfig (text: string): Config {
  try {
    return configSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new CniError(decodingFailure, `the configuration on standard input cannot be used: ${(error as Error).message}`)
  }
}

/** `A=b;C=d`. Switches of the runtime's own are no facts about the workload. */
function argumentsOf (text: string): Map<string, string> {
  const pairs = text.split(';').map(pair => /^([^=]+)=(.+)$/.exec(pair)?.slice(1) as [string, string] | undefined)
  return new Map(pairs.filter(pair => pair !== undefined && pair[0] !== 'IgnoreUnknown') as [string, string][])
}

function failureOf (error: unknown, cniVersion: string): object {
  if (error instanceof CniError) return { cniVersion, code: error.cniCode, msg: error.message }
  const refusal = refusalOf(error)
  if (refusal === undefined && !(error instanceof SpiffeError)) throw error
  return {
    cniVersion, code: refusal?.retry === true ? tryAgainLater : ownError, msg: refusal?.message ?? (error as Error).message,
    details: `${refusal?.code ?? ''}: ${refusal?.next ?? ''}`
  }
}

function answer (terminal: Terminal, value: object): void { terminal.out(`${JSON.stringify(value)}\n`) }
