import { type ControllerConfig, parseControllerConfig } from '../../controller/controller-config.ts'
import { readConfigSource } from '../config-flags.ts'
import { pathFlag, switchFlag, textFlag, type FlagValues } from '../flag.ts'
import { defaultServerSocket, serverSocketPath } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'

const defaultFile = 'controller.yaml'

/** Flags of all commands of the controller; each wins over its key in the file. */
export const controllerConfigFlags = {
  config: pathFlag('configuration file: YAML or JSON', { defaultText: `${defaultFile}, if it is there` }),
  expandEnv: switchFlag('replace $NAME and ${NAME} in the file from the environment'),
  kubeconfig: pathFlag('how to reach the API server', { defaultText: 'the cluster that this process runs in' }),
  socketPath: pathFlag('the server\'s admin socket', {
    placeholder: 'PATH', defaultText: `spireServerSocketPath of the file, $ASSAY_SERVER_SOCKET or ${defaultServerSocket}`
  }),
  trustDomain: textFlag('the server\'s trust domain', { placeholder: 'NAME' }),
  clusterName: textFlag('the cluster\'s name, as its agents\' configuration has it', { placeholder: 'NAME' }),
  className: textFlag('only resources of this class', { placeholder: 'NAME' }),
  logLevel: textFlag('DEBUG, INFO, WARN or ERROR', { placeholder: 'LEVEL' })
}

/** @throws {SpiffeError} `file_unusable`, `config_invalid`, `usage_invalid` */
export async function readControllerConfig (
  flags: FlagValues<typeof controllerConfigFlags>, terminal: Terminal
): Promise<{ readonly config: ControllerConfig, readonly socketPath: string }> {
  const source = await readConfigSource(flags, terminal, defaultFile, {
    kubeconfig: ['kubeConfigFile'],
    trustDomain: ['trustDomain'],
    clusterName: ['clusterName'],
    className: ['className'],
    logLevel: ['logLevel']
  })
  const config = parseControllerConfig(source)
  const given = flags.socketPath ?? config.serverSocketPath
  return { config, socketPath: serverSocketPath({ socketPath: given, instance: undefined }, terminal.environment) }
}
