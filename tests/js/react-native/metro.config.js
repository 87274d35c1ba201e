const path = require('node:path');
const { getDefaultConfig, mergeConfig } = require('@react-native/metro-config');

const client = path.join(__dirname, '../../../gateway/web/static/client');
const packages = path.join(__dirname, 'node_modules');

module.exports = mergeConfig(getDefaultConfig(__dirname), {
  watchFolders: [client],
  resolver: { extraNodeModules: { 'realtime-gateway-client': client }, nodeModulesPaths: [packages] },
  // What React Native itself begins with; device.js has in its place what the client needs of that.
  serializer: { getModulesRunBeforeMainModule: () => [], getPolyfills: () => [] },
});
