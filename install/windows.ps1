<#
.SYNOPSIS
Sets up VBG Camera for one user on Windows 10 or 11, and takes it away again.

.DESCRIPTION
The picture reaches other programs through OBS Studio's virtual camera: they list it as
"OBS Virtual Camera", because Windows shows the name of the driver that brings it.
Nothing here needs an administrator.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File install\windows.ps1
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    # Take everything away again; settings stay.
    [switch] $Uninstall,
    # With -Uninstall: settings, backgrounds, cache and log too.
    [switch] $Purge,
    # Install this wheel or source folder instead of the one around this script.
    [string] $From = ''
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$base = Join-Path $env:LOCALAPPDATA 'vcam'
$venv = Join-Path $base 'venv'
$program = Join-Path $venv 'Scripts\vcam.exe'
$startup = [Environment]::GetFolderPath('Startup')
$menu = [Environment]::GetFolderPath('Programs')
$links = @{
    (Join-Path $startup 'VBG Camera.lnk')      = 'start'
    (Join-Path $startup 'VBG Camera tray.lnk') = 'tray'
    (Join-Path $menu 'VBG Camera.lnk')         = 'open'
}

function Test-ObsCamera {
    # The class under which OBS registers its DirectShow filter.
    Test-Path 'Registry::HKEY_CLASSES_ROOT\CLSID\{A3FCE0F5-3493-419F-958A-ABA1250EC20B}'
}

function Find-Python {
    foreach ($version in '3.13', '3.12', '3.11', '3.10') {
        $found = & py "-$version" -c 'import sys; print(sys.executable)' 2>$null
        if ($LASTEXITCODE -eq 0) { return $found }
    }
    throw 'Python 3.10 or newer is missing. Run: winget install Python.Python.3.12'
}

function New-Shortcut([string] $Path, [string] $Arguments) {
    if (-not $PSCmdlet.ShouldProcess($Path, 'Create shortcut')) { return }
    $shortcut = (New-Object -ComObject WScript.Shell).CreateShortcut($Path)
    $shortcut.TargetPath = $program
    $shortcut.Arguments = $Arguments
    $shortcut.WindowStyle = 7
    $shortcut.Save()
}

function Remove-Everything {
    if (Test-Path $program) { & $program stop }
    $paths = @($links.Keys) + $venv
    $paths += Join-Path $base 'rooms'  # pictures of a room, which nobody misses
    if ($Purge) { $paths += $base, (Join-Path $env:APPDATA 'vcam') }
    foreach ($path in $paths) {
        if ((Test-Path $path) -and $PSCmdlet.ShouldProcess($path, 'Remove')) {
            Remove-Item -Recurse -Force $path
        }
    }
}

if ($Uninstall) {
    Remove-Everything
    return
}

if (Test-ObsCamera) {
    Write-Output 'The OBS virtual camera is there.'
}
else {
    Write-Warning 'The OBS virtual camera is missing: it carries the picture to other programs.'
    Write-Output '  winget install OBSProject.OBSStudio'
    Write-Output '  Start OBS, choose "Start Virtual Camera" once, then close it.'
}

$source = if ($From) { $From } else { Split-Path -Parent $PSScriptRoot }
if ($PSCmdlet.ShouldProcess($venv, 'Install the program')) {
    if (-not (Test-Path (Join-Path $venv 'Scripts\python.exe'))) {
        & (Find-Python) -m venv $venv
        if ($LASTEXITCODE -ne 0) { throw "The environment $venv could not be made." }
    }
    $python = Join-Path $venv 'Scripts\python.exe'
    & $python -m pip install --quiet --disable-pip-version-check --upgrade $source
    if ($LASTEXITCODE -ne 0) { throw "pip could not install $source." }
    & $python (Join-Path $PSScriptRoot 'trim.py')
}
foreach ($link in $links.GetEnumerator()) { New-Shortcut $link.Key $link.Value }
Write-Output 'Done. Choose "OBS Virtual Camera" in your meeting; the tray starts at the next login.'
Write-Output "Now: & '$program' start; & '$program' tray"
