import { z } from 'zod'
import { ApiServer } from '../../attestation/kubernetes/api-server.ts'
import { optionalText, text } from '../../runtime/config-schema.ts'
import type { UpstreamPlugin } from '../upstream-plugin.ts'
import { CertManagerUpstream } from './cert-manager-upstream.ts'

const schema = z.strictObject({
  namespace: text.regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be the name of a Kubernetes namespace'),
  issuer_name: text,
  issuer_kind: optionalText,
  issuer_group: optionalText,
  kube_config_file: optionalText
})

/** cert-manager, with SPIRE's keys (spire-surface §7.4). The cluster need not be there when this server starts with a CA at hand. */
export const certManagerUpstreamPlugin: UpstreamPlugin<z.output<typeof schema>> = {
  name: 'cert-manager',
  config: schema,
  async start ({ namespace, issuer_name: name, issuer_kind: kind = 'Issuer', issuer_group: group = 'cert-manager.io', ...config }, host) {
    return new CertManagerUpstream(ApiServer.of(config.kube_config_file), { namespace, issuer: { name, kind, group } }, host)
  }
}
