import { httpVerifierPlugin } from '../attestation/node/http-challenge/http-verifier-plugin.ts'
import { joinTokenVerifierPlugin } from '../attestation/node/join-token/join-token-verifier-plugin.ts'
import { satRefusal } from '../attestation/node/k8s-psat/cluster-name.ts'
import { psatVerifierPlugin } from '../attestation/node/k8s-psat/psat-verifier-plugin.ts'
import type { NodeVerifier } from '../attestation/node/node-verifier.ts'
import { sshVerifierPlugin } from '../attestation/node/sshpop/ssh-verifier-plugin.ts'
import { popVerifierPlugin } from '../attestation/node/x509pop/pop-verifier-plugin.ts'
import { awsKmsKeyManagerPlugin } from '../keys/aws-kms/aws-kms-plugin.ts'
import { databaseKeyManagerPlugin } from '../keys/database/database-plugin.ts'
import { diskKeyManagerPlugin } from '../keys/disk/disk-plugin.ts'
import { hashicorpVaultKeyManagerPlugin } from '../keys/hashicorp-vault/hashicorp-vault-plugin.ts'
import type { KeyManager } from '../keys/key-manager.ts'
import type { UpstreamAuthority } from '../ca/upstream-authority.ts'
import { memoryKeyManagerPlugin } from '../keys/memory/memory-plugin.ts'
import { pkcs11KeyManagerPlugin } from '../keys/pkcs11/pkcs11-plugin.ts'
import type { RemoteKeysHost } from '../keys/remote/remote-keys-host.ts'
import { startExternalBundlePublisher } from '../pluginhost/bundle-publisher.ts'
import { startExternalComposer } from '../pluginhost/credential-composer.ts'
import { startExternalKeyManager } from '../pluginhost/key-manager.ts'
import { startExternalNodeVerifier } from '../pluginhost/node-verifier.ts'
import { startExternalNotifier } from '../pluginhost/notifier.ts'
import type { PluginHost } from '../pluginhost/plugin-host.ts'
import { startExternalUpstream } from '../pluginhost/upstream-authority.ts'
import type { Catalog } from '../plugins/catalog.ts'
import type { CredentialComposer } from '../plugins/credential-composer.ts'
import type { Notifier } from '../plugins/notifier.ts'
import { awsPcaUpstreamPlugin } from '../upstream/aws-pca/aws-pca-plugin.ts'
import { awsSecretUpstreamPlugin } from '../upstream/awssecret/awssecret-plugin.ts'
import { certManagerUpstreamPlugin } from '../upstream/cert-manager/cert-manager-plugin.ts'
import { diskUpstreamPlugin } from '../upstream/disk/disk-upstream-plugin.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { ejbcaUpstreamPlugin } from '../upstream/ejbca/ejbca-plugin.ts'
import { spireUpstreamPlugin } from '../upstream/spire/spire-upstream-plugin.ts'
import type { UpstreamHost } from '../upstream/upstream-plugin.ts'
import { vaultUpstreamPlugin } from '../upstream/vault/vault-upstream-plugin.ts'
import { awsS3PublisherPlugin } from './bundle-publisher/aws-s3-plugin.ts'
import type { BundlePublisher } from './bundle-publisher/bundle-publisher.ts'
import { filePublisherPlugin } from './bundle-publisher/file-plugin.ts'
import { k8sConfigMapPublisherPlugin } from './bundle-publisher/k8s-configmap-plugin.ts'
import { uniqueIdComposerPlugin } from './credential-composer/uniqueid-plugin.ts'
import { k8sBundleNotifierPlugin } from './notifier/k8sbundle-plugin.ts'

export interface ServerPlugins {
  readonly KeyManager: KeyManager
  readonly UpstreamAuthority: UpstreamAuthority
  readonly NodeAttestor: NodeVerifier & AsyncDisposable
  readonly BundlePublisher: BundlePublisher
  readonly CredentialComposer: CredentialComposer
  readonly Notifier: Notifier
}

const gcsRefusal = 'is not offered: there is no client of Google Cloud Storage here; keep the bundle in S3, in a file or in a ConfigMap ' +
  '(bundle publishers aws_s3, file, k8s_configmap)'

export interface ServerPluginHost extends UpstreamHost, RemoteKeysHost, PluginHost {
  readonly dataDir: string
  /** @throws {SpiffeError} `join_token_invalid` */
  readonly checkJoinToken: (token: string) => Promise<void>
  /** The trust domain's; `undefined` until there is one. */
  readonly ownBundle: () => Bundle | undefined
}

export const serverCatalog: Catalog<ServerPlugins, ServerPluginHost> = {
  KeyManager: {
    use: 'one',
    plugins: [
      diskKeyManagerPlugin, memoryKeyManagerPlugin, databaseKeyManagerPlugin, hashicorpVaultKeyManagerPlugin, awsKmsKeyManagerPlugin,
      pkcs11KeyManagerPlugin
    ],
    external: startExternalKeyManager
  },
  UpstreamAuthority: {
    use: 'one_or_none',
    plugins: [
      diskUpstreamPlugin, spireUpstreamPlugin, vaultUpstreamPlugin, awsPcaUpstreamPlugin, awsSecretUpstreamPlugin,
      certManagerUpstreamPlugin, ejbcaUpstreamPlugin
    ],
    external: startExternalUpstream
  },
  NodeAttestor: {
    use: 'several',
    plugins: [joinTokenVerifierPlugin, psatVerifierPlugin, popVerifierPlugin, sshVerifierPlugin, httpVerifierPlugin],
    refused: { k8s_sat: satRefusal },
    external: startExternalNodeVerifier
  },
  BundlePublisher: {
    use: 'any', plugins: [k8sConfigMapPublisherPlugin, awsS3PublisherPlugin, filePublisherPlugin], external: startExternalBundlePublisher
  },
  CredentialComposer: { use: 'any', plugins: [uniqueIdComposerPlugin], external: startExternalComposer },
  Notifier: { use: 'any', plugins: [k8sBundleNotifierPlugin], refused: { gcs_bundle: gcsRefusal }, external: startExternalNotifier }
}
