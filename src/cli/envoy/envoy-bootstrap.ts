import { hostname } from 'node:os'
import { envoyBootstrap } from '../../mesh/envoy/bootstrap.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, textFlag } from '../flag.ts'
import { meshFlags, xdsSocketPath } from '../mesh/mesh-client.ts'

const defaultAdminSocket = '/run/envoy/admin.sock'

export const envoyBootstrapCommand = defineCommand({
  flags: {
    ...meshFlags,
    adminSocket: pathFlag('where Envoy\'s admin interface is to listen', { placeholder: 'PATH', defaultText: defaultAdminSocket }),
    nodeId: textFlag('the node\'s name in logs', { placeholder: 'NAME', defaultText: 'the host\'s name' })
  },
  details: 'For an Envoy that something else than the agent runs; the agent must know it by `mesh.proxy_selectors`.\n' +
    'Start it with a short drain time, or what it serves outlives the right behind it: see the example.',
  examples: [
    'assay envoy bootstrap > envoy.json && envoy -c envoy.json --drain-time-s 2 --drain-strategy immediate',
    'assay envoy bootstrap -socketPath /run/assay/xds.sock -adminSocket /run/envoy/admin.sock'
  ],
  async run ({ flags, terminal }) {
    const bootstrap = envoyBootstrap({
      xdsSocketPath: xdsSocketPath(flags.socketPath, terminal.environment),
      adminSocketPath: flags.adminSocket ?? defaultAdminSocket,
      nodeId: flags.nodeId ?? hostname()
    })
    terminal.out(`${JSON.stringify(bootstrap, undefined, 2)}\n`)
    return 0
  }
})
