import { z } from 'zod'
import type { Plugin } from '../../../plugins/plugin.ts'
import type { NodeAttestor } from '../node-attestor.ts'
import { createSshAttestor, type SshAttestorConfig } from './ssh-attestor.ts'
import { readHostCredentials } from './ssh-files.ts'

/** Empty as in SPIRE: the usual place. */
const pathOr = (usual: string) => z.string().default('').transform(path => path === '' ? usual : path)

export const sshAttestorPlugin: Plugin<NodeAttestor & AsyncDisposable, SshAttestorConfig, unknown> = {
  name: 'sshpop',
  config: z.strictObject({
    host_key_path: pathOr('/etc/ssh/ssh_host_rsa_key'), host_cert_path: pathOr('/etc/ssh/ssh_host_rsa_key-cert.pub')
  }).transform(({ host_key_path: keyPath, host_cert_path: certificatePath }) => ({ keyPath, certificatePath })),
  async start (config) {
    // As in SPIRE: what is not there keeps the agent from starting.
    await readHostCredentials(config.keyPath, config.certificatePath)
    return { ...createSshAttestor(config), [Symbol.asyncDispose]: async () => {} }
  }
}
