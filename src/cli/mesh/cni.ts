import { defineCommand } from '../command.ts'
import { refusalOf } from '../refusal.ts'
import type { Terminal } from '../terminal.ts'
import { type CniConfig, cniVersions, readCniArguments, readCniConfig, requiredVariable } from './cni-config.ts'
import { CniError, cniCode, failureOf, isAway } from './cni-error.ts'
import { withMesh } from './mesh-client.ts'

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
    let config: CniConfig | undefined
    try {
      const command = requiredVariable(terminal, 'CNI_COMMAND')
      if (command === 'VERSION') {
        answer(terminal, { cniVersion: cniVersions.at(-1), supportedVersions: cniVersions })
        return 0
      }
      config = await readCniConfig(terminal)
      await act(command, config, terminal)
      return 0
    } catch (error) {
      answer(terminal, failureOf(error, config?.cniVersion ?? '0.3.0'))
      return 1
    }
  }
})

async function act (command: string, config: CniConfig, terminal: Terminal): Promise<void> {
  switch (command) {
    case 'ADD': {
      await add(config, terminal)
      // What the plugins before said goes on unchanged.
      answer(terminal, config.prevResult ?? { cniVersion: config.cniVersion })
      return
    }
    case 'CHECK': {
      const id = requiredVariable(terminal, 'CNI_CONTAINERID')
      await withMesh(config.socketPath, mesh => mesh.checkWorkload({ id }, limits(config, terminal)))
      return
    }
    case 'DEL': return await remove(config, terminal)
    case 'GC': {
      const ids = (config['cni.dev/valid-attachments'] ?? []).map(({ containerID }) => containerID)
      if (config['cni.dev/valid-attachments'] === undefined) {
        throw new CniError(cniCode.decodingFailure, 'cni.dev/valid-attachments is missing')
      }
      await withMesh(config.socketPath, mesh => mesh.retainWorkloads({ network: config.name, ids }, limits(config, terminal)))
      return
    }
    // That the agent is away must not make a runtime call its node unfit for pods: each ADD says what becomes of its own.
    case 'STATUS': return
    default: throw new CniError(cniCode.invalidEnvironment, `CNI_COMMAND ${JSON.stringify(command)} is not known`)
  }
}

async function add (config: CniConfig, terminal: Terminal): Promise<void> {
  const id = requiredVariable(terminal, 'CNI_CONTAINERID')
  const netnsPath = requiredVariable(terminal, 'CNI_NETNS')
  const facts = readCniArguments(terminal.environment['CNI_ARGS'] ?? '')
  const [namespace, pod, uid = ''] = ['K8S_POD_NAMESPACE', 'K8S_POD_NAME', 'K8S_POD_UID'].map(name => facts.get(name))
  const name = pod === undefined ? '' : `${namespace ?? ''}/${pod}`
  try {
    await withMesh(config.socketPath, mesh => mesh.addWorkload({
      id, netnsPath, name, network: config.name,
      addresses: (config.prevResult?.ips ?? []).map(({ address }) => address.replace(/\/\d+$/, '')),
      selectors: [...facts].map(([name, value]) => ({ type: 'cni', value: `${name}:${value}` })),
      ...pod === undefined || namespace === undefined ? {} : { pod: { namespace, name: pod, uid } }
    }, limits(config, terminal)))
  } catch (error) {
    const refusal = refusalOf(error)
    // Whether pods without an identity may start, the agent's own configuration says.
    if (refusal === undefined || refusal.code === 'no_identity_issued') throw error
    const isExempt = namespace !== undefined && config.exemptNamespaces.includes(namespace) && isAway(refusal)
    if (config.onFailure !== 'pass' && !isExempt) throw error
    const why = isExempt ? `namespace ${namespace} is one of exemptNamespaces` : 'onFailure is pass'
    terminal.err(`assay-cni: warning: ${name || id} starts outside the mesh, since ${why}: ${refusal.message} (${refusal.code})\n`)
  }
}

/** Of one that is gone, nothing; and an agent that is away finds out by itself that a namespace has gone. */
async function remove (config: CniConfig, terminal: Terminal): Promise<void> {
  const id = requiredVariable(terminal, 'CNI_CONTAINERID')
  try {
    await withMesh(config.socketPath, mesh => mesh.removeWorkload({ id }, limits(config, terminal)))
  } catch (error) {
    const refusal = refusalOf(error)
    if (refusal === undefined || !isAway(refusal)) throw error
    terminal.err(`assay-cni: ${id} is removed without the agent, which will find out: ${refusal.message}\n`)
  }
}

function limits ({ timeoutSeconds }: CniConfig, { signal }: Terminal): { readonly signal: AbortSignal, readonly timeoutMs: number } {
  return { signal, timeoutMs: timeoutSeconds * 1_000 }
}

function answer (terminal: Terminal, value: object): void { terminal.out(`${JSON.stringify(value)}\n`) }
