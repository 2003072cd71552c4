import { systemClock } from '../../runtime/clock.ts'
import { createLogger } from '../../runtime/logger.ts'
import { defineCommand } from '../command.ts'
import { choiceFlag, commaListFlag, pathFlag, textFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { defaultXdsSocket } from './mesh-client.ts'
import { isPluginWanted, parsePluginOwner } from './plugin-owner.ts'

const usual = { binDir: '/opt/cni/bin', configDir: '/etc/cni/net.d', programDir: '/var/lib/assay/cni' } as const

const folder = (name: keyof typeof usual, help: string) => pathFlag(help, { placeholder: 'FOLDER', defaultText: usual[name] })
const placeFlags = {
  binDir: folder('binDir', 'where the runtime looks for plugins'),
  configDir: folder('configDir', 'where the runtime finds the cluster\'s network'),
  programDir: folder('programDir', 'where the program goes, with all it needs; of nobody else'),
  logLevel: choiceFlag('least level that is logged', ['debug', 'info', 'warn', 'error'], 'info'),
  logFormat: choiceFlag('form of the log', ['text', 'json'], 'text')
}
const sameHere = 'All folders must be at the same paths here and on the node.'

export const meshKeepPlugin = defineCommand({
  flags: {
    ...placeFlags,
    network: textFlag('name of the network that it joins', { placeholder: 'NAME', defaultText: 'the first, as runtimes have it' }),
    socketPath: pathFlag('the agent\'s xDS socket, as the node sees it', { placeholder: 'PATH', defaultText: defaultXdsSocket }),
    onFailure: choiceFlag('what becomes of a pod when the agent does not answer', ['fail-closed', 'pass'], 'fail-closed'),
    exemptNamespace: commaListFlag('namespaces whose pods start although the agent does not answer', 'NAME'),
    owner: textFlag('the DaemonSet and its container that this is', { placeholder: 'NAMESPACE/DAEMONSET/CONTAINER', defaultText: 'none' })
  },
  details: 'Its entry is the last of the network\'s *.conflist; whoever writes that file anew has it again within a second.\n' +
    `${sameHere} At its end the plugin stays, unless -owner is gone from the cluster or has no such container any more.`,
  examples: ['assay mesh keep-plugin -socketPath /run/assay/mesh/xds.sock -owner assay-node/assay-agent/cni'],
  async run ({ flags, terminal }) {
    const owner = flags.owner === undefined ? undefined : parsePluginOwner(flags.owner)
    const log = createLogger({ level: flags.logLevel, format: flags.logFormat })
    const { ApiServer } = await import('../../attestation/kubernetes/api-server.ts')
    const { runningProgram } = await import('../../cni/installed-program.ts')
    const { keepPlugin } = await import('../../cni/keep-plugin.ts')
    await using api = ApiServer.of(undefined)
    await keepPlugin({
      ...placesOf(flags), network: flags.network,
      entry: {
        socketPath: flags.socketPath ?? defaultXdsSocket, onFailure: flags.onFailure,
        exemptNamespaces: flags.exemptNamespace.length === 0 ? ['kube-system'] : flags.exemptNamespace
      }
    }, {
      program: runningProgram(), clock: systemClock, log,
      isWanted: async signal => owner === undefined || await isPluginWanted(owner, api, log, signal)
    }, terminal.signal)
    return 0
  }
})

export const meshRemovePlugin = defineCommand({
  flags: placeFlags,
  details: `For a node whose agent is gone and was not asked. What is not there is no mistake. ${sameHere}`,
  examples: ['assay mesh remove-plugin'],
  async run ({ flags }) {
    const { removePlugin } = await import('../../cni/keep-plugin.ts')
    await removePlugin(placesOf(flags), createLogger({ level: flags.logLevel, format: flags.logFormat }))
    return 0
  }
})

function placesOf (flags: { readonly [Name in keyof typeof usual]: string | undefined }) {
  const places = {
    binFolder: flags.binDir ?? usual.binDir, configFolder: flags.configDir ?? usual.configDir,
    programFolder: flags.programDir ?? usual.programDir
  }
  for (const path of Object.values(places)) if (!path.startsWith('/')) throw usage(`${path} must be an absolute path`)
  return places
}
