import { join } from 'node:path'
import { systemClock } from '../../runtime/clock.ts'
import { createLogger } from '../../runtime/logger.ts'
import { defineCommand } from '../command.ts'
import { choiceFlag, type Flag, pathFlag, switchFlag, textFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'

const usualName = 'csi.assay.io'
const usualKubeletDir = '/var/lib/kubelet'

export const csiRun = defineCommand({
  flags: {
    workloadSocketDir: pathFlag('folder of the agent\'s socket_path, which pods are given', { placeholder: 'FOLDER' }),
    nodeId: textFlag('name of this node in its cluster', { placeholder: 'NAME', defaultText: '$MY_NODE_NAME' }),
    driverName: nameFlag('what pods call the driver; csi.spiffe.io for manifests of SPIRE\'s driver'),
    kubeletDir: pathFlag('the kubelet\'s folder, at the same path here and on the node', {
      placeholder: 'FOLDER', defaultText: usualKubeletDir
    }),
    csiSocket: pathFlag('where to listen, at the same path here and on the node', {
      defaultText: 'plugins/DRIVER-NAME/csi.sock in the kubelet\'s folder'
    }),
    noRegistration: switchFlag('leave it to node-driver-registrar to tell the kubelet of the driver'),
    logLevel: choiceFlag('least level that is logged', ['debug', 'info', 'warn', 'error'], 'info'),
    logFormat: choiceFlag('form of the log', ['text', 'json'], 'text')
  },
  details: 'A CSI driver of ephemeral volumes: mounts the folder of the agent\'s Workload API socket into pods, read-only.\n' +
    'It runs as root beside the agent on each node, and needs a mount of the kubelet\'s pods that goes both ways: docs/csi.md.',
  examples: [
    'assay csi run -workloadSocketDir /run/assay/workload -nodeId worker-1',
    'assay csi run -workloadSocketDir /run/spire/agent-sockets -nodeId worker-1 -driverName csi.spiffe.io'
  ],
  async run ({ flags, terminal }) {
    const { workloadSocketDir: source, driverName, kubeletDir = usualKubeletDir, noRegistration } = flags
    if (source === undefined) throw usage('-workloadSocketDir is missing')
    const nodeId = flags.nodeId ?? terminal.environment['MY_NODE_NAME'] ?? ''
    if (nodeId === '') throw usage('-nodeId is missing, and MY_NODE_NAME is not set')
    const csiSocket = flags.csiSocket ?? join(kubeletDir, 'plugins', driverName, 'csi.sock')
    for (const [name, path] of Object.entries({ workloadSocketDir: source, kubeletDir, csiSocket })) {
      if (!path.startsWith('/')) throw usage(`-${name} must be an absolute path`)
    }
    const registrationSocket = noRegistration ? undefined : join(kubeletDir, 'plugins_registry', `${driverName}-reg.sock`)
    const log = createLogger({ level: flags.logLevel, format: flags.logFormat })
    const { openMountCalls } = await import('../../csi/mount-calls.ts')
    const { runDriver } = await import('../../csi/run-driver.ts')
    const config = { source, kubeletDir, driverName, nodeId, csiSocket, registrationSocket }
    await runDriver(config, { calls: openMountCalls(), clock: systemClock, log }, terminal.signal)
    return 0
  }
})

/** CSI §GetPluginInfo: a domain name of at most 63 characters. */
function nameFlag (help: string): Flag<string> {
  return {
    help, placeholder: 'NAME', initial: usualName, defaultText: usualName,
    accept (text) {
      if (!/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/.test(text) || text.includes('..')) {
        throw new Error('must be at most 63 of a-z 0-9 - . such as csi.assay.io')
      }
      return text
    }
  }
}
